"""Code of a released repository, imported from the user's checkout as it is, on the weights of a benchmark cell.

None of it is part of this repository. Entry points, of the repository DMPO (github.com/yuchen-zhu-zyc/DMPO):

- fast_samplers/fast_dllm/generate.py: `generate_llada` without a cache, `generate_with_prefix_cache` and
  `generate_with_dual_cache` of Fast-dLLM, with the model of modeling_llada.py next to it;
- DMPO/dmpo_trainer.py: `DMPOTrainer.compute_loss`.

And of d1 (github.com/dllm-reasoning/d1): eval/generate.py: `generate`, which needs no model of theirs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from unmask.models.checkpoint_formats import llada_name

ENTRY_POINTS = {
    "dmpo": {
        "fast_samplers/fast_dllm/generate.py": (
            "def generate_llada",
            "def generate_with_prefix_cache",
            "def generate_with_dual_cache",
        ),
        "fast_samplers/fast_dllm/modeling_llada.py": ("class LLaDAModelLM",),
        "fast_samplers/fast_dllm/configuration_llada.py": ("class LLaDAConfig",),
        "DMPO/dmpo_trainer.py": ("class DMPOTrainer", "def compute_loss"),
    },
    "d1": {"eval/generate.py": ("def generate",), "diffu-grpo/diffu_grpo_trainer.py": ()},
}
GENERATE = {"none": "generate_llada", "prefix": "generate_with_prefix_cache", "dual": "generate_with_dual_cache"}
# Packages that the module of the trainer imports and that its loss does not use.
UNUSED = ("trl", "wandb")
MASKS = 7  # seed of the masked copies


def kind_of(folder: Path) -> str:
    """Return which repository a checkout is of, `dmpo` or `d1`. Raises ValueError that says what it lacks."""
    lacking = {kind: _lacking(folder, files) for kind, files in ENTRY_POINTS.items()}
    for kind, missing in lacking.items():
        if not missing:
            return kind
    said = "; ".join(f"for {kind} it lacks {', '.join(missing)}" for kind, missing in lacking.items())
    raise ValueError(
        f"{folder}: not a checkout of DMPO or d1 ({said}). Clone https://github.com/yuchen-zhu-zyc/DMPO or "
        "https://github.com/dllm-reasoning/d1 and give its folder"
    )


def _lacking(folder: Path, files: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the entry points that a checkout lacks."""
    missing = []
    for name, definitions in files.items():
        file = folder / name
        if not file.is_file():
            missing.append(name)
            continue
        text = file.read_text(encoding="utf-8")
        missing += [f"{definition} in {name}" for definition in definitions if definition not in text]
    return missing


def commit_of(folder: Path) -> str:
    """Return the commit of a checkout; "" if it is no git repository."""
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), "rev-parse", "HEAD"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


# --- models -----------------------------------------------------------------------------------------------------------


def without_mask_token(model: nn.Module) -> None:
    """Make [MASK] improbable: the released code does not exclude it, and would have to decode its position again."""
    model.lm_head.weight.data[model.config.mask_token_id] = 0.0


def their_model(folder: Path, ours: nn.Module) -> nn.Module:
    """Return the released LLaDA with the weights of ours."""
    sys.path.insert(0, str(folder))
    modeling = importlib.import_module("fast_samplers.fast_dllm.modeling_llada")
    configuration = importlib.import_module("fast_samplers.fast_dllm.configuration_llada")
    c = ours.config
    config = configuration.LLaDAConfig(
        d_model=c.hidden_size,
        n_layers=c.num_hidden_layers,
        n_heads=c.num_attention_heads,
        n_kv_heads=c.num_key_value_heads,
        mlp_hidden_size=c.intermediate_size,
        vocab_size=c.vocab_size,
        embedding_size=c.vocab_size,
        max_sequence_length=c.max_position_embeddings,
        rope_theta=c.rope_parameters["rope_theta"],
        rms_norm_eps=c.rms_norm_eps,
        mask_token_id=c.mask_token_id,
        eos_token_id=c.eos_token_id,
        pad_token_id=c.eos_token_id,
        rope=True,
        block_type="llama",
        layer_norm_type="rms",
        activation_type="silu",
        weight_tying=False,
        attention_dropout=0.0,
        residual_dropout=0.0,
        embedding_dropout=0.0,
    )
    # transformers 5 keeps `use_cache` in the generation config, where the released forward pass does not look.
    config.use_cache = False
    model = modeling.LLaDAModelLM(config).eval()
    model.load_state_dict({llada_name(name): weight for name, weight in ours.state_dict().items()})
    return model.requires_grad_(False)


class WithLogits(nn.Module):
    """Our model, called as d1's evaluation calls the published one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> SimpleNamespace:
        """Return the logits at every column."""
        return SimpleNamespace(logits=self.model(ids))


# --- decoding ---------------------------------------------------------------------------------------------------------


def decoder(folder: Path, job: dict[str, Any], model: nn.Module) -> Callable[[Tensor, float], Tensor]:
    """Return a function of prompt and temperature that decodes responses as the released code does."""
    settings = {
        "steps": job["length"] // job["tokens_per_step"],
        "gen_length": job["length"],
        "block_length": job["block"],
        "mask_id": 0,
    }
    if kind_of(folder) == "dmpo":
        theirs = their_model(folder, model)
        module = importlib.import_module("fast_samplers.fast_dllm.generate")
        generate = getattr(module, GENERATE[job["cache"]])
    else:
        theirs = WithLogits(model)
        generate = _module(folder / "eval/generate.py").generate
        # Its progress bar asks for the rank.
        store = tempfile.NamedTemporaryFile(delete=False)  # noqa: SIM115
        torch.distributed.init_process_group("gloo", init_method=f"file://{store.name}", rank=0, world_size=1)
        if "tokenizer" in inspect.signature(generate).parameters:
            settings["tokenizer"] = None

    def decode(prompt: Tensor, temperature: float) -> Tensor:
        whole = generate(theirs, prompt, temperature=temperature, **settings)
        return whole[:, prompt.shape[1] :]

    return decode


def _module(file: Path) -> ModuleType:
    """Import a file that is not part of a package."""
    spec = importlib.util.spec_from_file_location(f"released_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the loss ---------------------------------------------------------------------------------------------------------


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Importer of packages that are not installed, and that the loss does not use either."""

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Answer for the packages and their submodules only."""
        package, _, _ = name.partition(".")
        if package not in self.packages:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Create a module that has whatever is asked of it."""
        return Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has no code."""


class Anything(ModuleType):
    """Module with any class and any decorator; the classes are empty, and the decorators change nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else lambda function: function


def masks(rows: int, length: int) -> Tensor:
    """Draw the masked copies [B, 2, L] that `compute_loss` draws after `torch.manual_seed(MASKS)`: complements."""
    generator = torch.Generator().manual_seed(MASKS)
    share = 0.1 + 0.9 * torch.rand(rows, generator=generator)
    half = torch.rand(rows, length, generator=generator) < share[:, None]
    return torch.stack((half, ~half), dim=1)


def loss(folder: Path, prompt: Tensor, response: Tensor, weight: Tensor) -> Callable[[nn.Module], Tensor]:
    """Return a function of the model that computes the released loss with these weights of the responses."""
    missing = [package for package in UNUSED if importlib.util.find_spec(package) is None]
    sys.meta_path.append(StandIns(missing))
    sys.path[:0] = [str(folder), str(folder / "DMPO")]
    trainer = importlib.import_module("dmpo_trainer").DMPOTrainer
    settings = {
        "num_replicates": 2,
        "loss": "wdce",
        "loss_antithetic": True,
        "loss_mask_prob_clamp": True,
        "loss_mask_non_eos": False,
        # Weights are given, so no baseline is subtracted from them.
        "advantage_centering": False,
        "mask_id": 0,
    }
    # The method reads its settings and nothing else of the trainer.
    its_own = SimpleNamespace(args=SimpleNamespace(**settings))
    nothing = torch.zeros_like(weight)

    def compute(model: nn.Module) -> Tensor:
        inputs = {
            "prompt_ids": prompt,
            "completion_ids": response,
            "completion_mask": torch.ones_like(response, dtype=torch.bool),
            # A mean over responses, as ours; theirs is a sum.
            "advantages": weight / len(weight),
            "negative_advantages": nothing,
            "log_prob_cur": nothing,
            "coeff": torch.ones(1),
        }
        torch.manual_seed(MASKS)
        return trainer.compute_loss(its_own, model, inputs)

    return compute


def with_adapter(
    model: nn.Module, lora: dict[str, Any], ours: dict[str, Tensor]
) -> tuple[nn.Module, list[nn.Parameter]]:
    """Put a LoRA adapter with the values of ours on the released model, by PEFT as the released code does.

    Returns the model and the adapter's matrices in the order of ours.
    """
    import peft

    names = {name: _their_adapter(name) for name in ours}
    modules = {name.split(".lora_")[0].rpartition(".")[2] for name in names.values()}
    config = peft.LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=sorted(modules),
    )
    adapted = peft.get_peft_model(model, config)
    parameters = dict(adapted.named_parameters())
    for name, value in ours.items():
        parameters[names[name]].data.copy_(value)
    return adapted, [parameters[names[name]] for name in ours]


def _their_adapter(name: str) -> str:
    """Translate the name of a LoRA matrix of ours to the one in PEFT's wrapper around the released model."""
    module, matrix = name.split(".lora_")
    theirs = llada_name(f"{module}.weight").removesuffix(".weight")
    return f"base_model.model.{theirs}.lora_{matrix}"
