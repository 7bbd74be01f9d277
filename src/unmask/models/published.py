"""Load a base model from a folder: published checkpoints and our own, with no code but ours.

Weights are read from safetensors only. Everything is checked on the headers of the files first, so that a wrong or
incomplete checkpoint is one error before any memory is taken.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from unmask import processes
from unmask.files import InputError
from unmask.models.layouts import Layout, read_json
from unmask.models.llada import LladaConfig, LladaForMaskedDiffusion
from unmask.seal import SUMS, check_seal

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
NUMBERS = {"BF16", "F16", "F32", "F64"}
Header = dict[str, tuple[list[int], str]]  # shape and type of number by name


def load_model(folder: Path, device: torch.device | str, dtype: torch.dtype) -> LladaForMaskedDiffusion:
    """The model in `folder` on a device, its weights as `dtype`. Raises InputError if the checkpoint is not whole."""
    layout = Layout.read(folder)
    model = layout.empty_model()
    headers = _check_weights(folder, layout, model)
    ours = {layout.stored_name(name): name for name in model.state_dict()}
    weights: dict[str, torch.Tensor] = {}
    for file, header in headers.items():
        for name in header:
            weights[ours[name]] = _read_weight(file, name, device, dtype)
    model.load_state_dict(weights, assign=True)
    model.config.dtype = dtype
    model.config.name_or_path = model.name_or_path = str(folder)  # PEFT notes it in an adapter
    return model.eval()


def _read_weight(file: Path, name: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
    """One weight on the device, as `dtype`.

    The file is opened anew for each: closing it is what gives back the pages that were read, so that the host never
    holds a checkpoint twice, as stored and as converted.
    """
    with safe_open(file, "pt", device=str(device)) as shard:
        return shard.get_tensor(name).to(dtype)


def check_checkpoint(folder: Path) -> int:
    """Check config, weights and tokenizer without loading the weights. Returns the number of parameters."""
    layout = Layout.read(folder)
    model = layout.empty_model()
    _check_weights(folder, layout, model)
    load_tokenizer(folder, layout.config)
    return sum(p.numel() for p in model.parameters())


def check_base(folder: Path) -> None:
    """Raise InputError unless the files of a base model are as they were sealed; one process a node reads them.

    Before the model is loaded, and for all processes of the job together.
    """
    if processes.local_rank() == 0:
        check_seal(Path(folder), remember=True)
    processes.wait()


def check_trained(folder: Path) -> None:
    """Raise InputError unless a trained adapter, or whole model, is as it was written, and no pickle.

    An adapter trained elsewhere has no SHA256SUMS; ours have one, and a manifest next to their folder.
    """
    folder = Path(folder)
    pickles = {file.name for file in folder.glob("*") if file.suffix in PICKLES}
    if pickles and not list(folder.glob("*.safetensors")):
        raise _pickled(folder, pickles)
    foreign = (folder / "adapter_config.json").exists() and not (folder.parent / "manifest.json").exists()
    if foreign and not (folder / SUMS).exists():
        print(f"{folder}: no {SUMS}, so an adapter from elsewhere: only its names, shapes and numbers are checked")
        return
    check_seal(folder)


def load_tokenizer(folder: Path, config: LladaConfig) -> PreTrainedTokenizerFast:
    """The tokenizer in `folder`, held against the model's configuration.

    Dream has none in tokenizer.json: its tokenizer is Qwen2's, made from vocab.json and merges.txt.
    """
    folder = Path(folder)
    kind, needed = PreTrainedTokenizerFast, ["tokenizer.json"]
    if not (folder / "tokenizer.json").exists() and (folder / "vocab.json").exists():
        kind, needed = Qwen2Tokenizer, ["vocab.json", "merges.txt"]
    for name in (*needed, "tokenizer_config.json"):
        if not (folder / name).exists():
            raise InputError(f"{folder / name}: not there; bring the whole checkpoint")
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # what the tokenizers library raises on a broken file has no other class
        raise InputError(f"{folder}: the tokenizer cannot be read ({error}); bring the whole checkpoint") from error
    if wrong := _wrong_with_tokenizer(tokenizer, config):
        raise InputError(f"{folder}: {wrong}")
    return tokenizer


def _wrong_with_tokenizer(tokenizer: PreTrainedTokenizerFast, config: LladaConfig) -> str | None:
    """Why this tokenizer cannot serve the model."""
    mask = config.mask_token_id
    if tokenizer.convert_ids_to_tokens(mask) is None or tokenizer.mask_token_id not in (None, mask):
        return f"config.json has mask_token_id {mask}, which is not the tokenizer's mask token; bring matching files"
    if len(tokenizer) > config.vocab_size:
        return f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}; bring matching files"
    if tokenizer.eos_token_id is None:
        return "the tokenizer has no eos_token, which ends and pads a response; add it to tokenizer_config.json"
    if tokenizer.chat_template is None:
        return "the tokenizer has no chat template; add chat_template to tokenizer_config.json (source: local)"
    return None


def _check_weights(folder: Path, layout: Layout, model: LladaForMaskedDiffusion) -> dict[Path, Header]:
    """The headers of the weight files, if together they hold exactly the weights of the model."""
    wanted = {layout.stored_name(name): list(value.shape) for name, value in model.state_dict().items()}
    headers = {file: _header(file) for file in _weight_files(Path(folder))}
    found = {name: entry for header in headers.values() for name, entry in header.items()}
    both = wanted.keys() & found.keys()
    lists = {
        "missing": wanted.keys() - found.keys(),
        "unexpected": found.keys() - wanted.keys(),
        "of another shape": {
            f"{name} {found[name][0]} instead of {wanted[name]}" for name in both if found[name][0] != wanted[name]
        },
        "quantised": {f"{name} {found[name][1]}" for name in both if found[name][1] not in NUMBERS},
    }
    if said := "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in lists.items() if names):
        raise InputError(f"{folder}: not the weights of its config.json: {said}. Bring the whole checkpoint.")
    return headers


def _some(names: set[str]) -> str:
    """The first few of many names."""
    return ", ".join(sorted(names)[:6]) + (", …" if len(names) > 6 else "")


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those its index names, or the only one."""
    if (folder / INDEX).exists():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(p, str) and Path(p).name == p for p in places.values()):
            raise InputError(f"{folder / INDEX}: no weight_map from weights to file names; bring the whole checkpoint")
        files = [folder / name for name in sorted(set(places.values()))]
    elif (folder / SINGLE).exists():
        files = [folder / SINGLE]
    elif pickles := {p.name for p in folder.glob("*") if p.suffix in PICKLES}:
        raise _pickled(folder, pickles)
    else:
        raise InputError(f"{folder}: neither {INDEX} nor {SINGLE} there; bring the whole checkpoint")
    if lacking := {file.name for file in files if not file.exists()}:
        raise InputError(f"{folder}: {_some(lacking)} not there, which {INDEX} names; bring the whole checkpoint")
    return files


def _pickled(folder: Path, names: set[str]) -> InputError:
    return InputError(
        f"{folder}: its weights are pickle files ({_some(names)}), which can run code when read and are never loaded "
        "here; bring them as safetensors"
    )


def _header(file: Path) -> Header:
    """Shape and type of every weight in a file, which must be as long as its header says."""
    try:
        with safe_open(file, "pt") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 (not a mapping)
            return {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: damaged or cut short ({error}); bring it again") from error
