"""Load base models from a folder, published checkpoints or our own, without running code from the checkpoint.

Weights are read from safetensors only. The headers of all files are checked first, so that a wrong or incomplete
checkpoint is a single error raised before any memory is allocated.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from unmask.common import distributed
from unmask.common.checksums import SUMS, verify_checksums
from unmask.common.errors import InputError
from unmask.models.checkpoint_formats import Layout, read_json
from unmask.models.llada import EMBEDDING_WEIGHT, HEAD_WEIGHT, LladaConfig, LladaForMaskedDiffusion

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
NUMBERS = {"BF16", "F16", "F32", "F64"}


class Stored(NamedTuple):
    """What the header of a file says about a weight."""

    shape: list[int]
    dtype: str


Header = dict[str, Stored]  # by weight name


def load_model(folder: Path, device: torch.device | str, dtype: torch.dtype) -> LladaForMaskedDiffusion:
    """Load the model in `folder` onto a device in `dtype`. Raises InputError if the checkpoint is incomplete."""
    layout = Layout.read(folder)
    model = layout.empty_model()
    headers = _check_weights(folder, layout, model)

    # One weight at a time onto the target device: the host holds neither a second copy nor an unconverted model.
    ours = {layout.stored_name(name): name for name in model.state_dict()}
    weights: dict[str, torch.Tensor] = {}
    for file, header in headers.items():
        for name in header:
            weights[ours[name]] = _read_weight(file, name, device, dtype)
    model.take(weights)
    model.config.dtype = dtype
    model.config.name_or_path = model.name_or_path = str(folder)  # PEFT stores it in adapter_config.json
    return model.eval()


def _read_weight(file: Path, name: str, device: torch.device | str, dtype: torch.dtype) -> torch.Tensor:
    """Read a weight onto the device in `dtype`.

    The file is reopened for every weight: only closing it releases the pages that were read. The host thus never holds
    a checkpoint twice, as stored and as converted.
    """
    with safe_open(file, "pt", device=str(device)) as shard:
        return shard.get_tensor(name).to(dtype)


def check_checkpoint(folder: Path) -> int:
    """Check config, weights and tokenizer without loading the weights; return the number of parameters.

    Raises InputError that names the file and what is wrong with it.
    """
    layout = Layout.read(folder)
    parameters = check_weights(folder, layout)
    load_tokenizer(folder, layout.config)
    return parameters


def check_base(folder: Path) -> None:
    """Raise InputError if the files of a base model differ from their SHA256SUMS.

    Call in every process of the job before the model is loaded: local rank 0 hashes the files, the others wait.
    """
    if distributed.local_rank() == 0:
        verify_checksums(Path(folder), remember=True)
    distributed.barrier()


def check_trained(folder: Path) -> None:
    """Raise InputError if a trained adapter or full model has changed since it was written, or is a pickle file.

    Our adapters have SHA256SUMS and a manifest next to their folder; an adapter trained elsewhere may have neither.
    """
    folder = Path(folder)
    pickles = {file.name for file in folder.glob("*") if file.suffix in PICKLES}
    if pickles and not list(folder.glob("*.safetensors")):
        raise pickled(folder, pickles)
    # A folder of ours that lost its SHA256SUMS is an error; only one from elsewhere may go without.
    is_foreign = not (folder.parent / "manifest.json").exists()
    if is_foreign and not (folder / SUMS).exists():
        print(f"{folder}: no {SUMS}, so treated as trained elsewhere: only names, shapes and values are checked")
        return
    verify_checksums(folder)


def load_tokenizer(folder: Path, config: LladaConfig) -> PreTrainedTokenizerFast:
    """Load the tokenizer in `folder` and check it against the model's configuration.

    Dream has no tokenizer.json: its tokenizer is Qwen2's, built from vocab.json and merges.txt. Raises InputError if
    files are missing or unreadable, or if the tokenizer does not fit the model.
    """
    folder = Path(folder)
    kind = PreTrainedTokenizerFast
    needed = ["tokenizer.json", "tokenizer_config.json"]
    if not (folder / "tokenizer.json").exists() and (folder / "vocab.json").exists():
        kind = Qwen2Tokenizer
        needed = ["vocab.json", "merges.txt", "tokenizer_config.json"]
    for name in needed:
        if not (folder / name).exists():
            raise InputError(f"{folder / name}: missing; download or copy the complete checkpoint")
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain Exception on a broken file
        raise InputError(
            f"{folder}: the tokenizer cannot be read ({error}); download or copy the complete checkpoint"
        ) from error
    wrong = _wrong_with_tokenizer(tokenizer, config)
    if wrong:
        raise InputError(f"{folder}: {wrong}")
    return tokenizer


def _wrong_with_tokenizer(tokenizer: PreTrainedTokenizerFast, config: LladaConfig) -> str | None:
    """Return why a tokenizer does not fit the model; None if it does."""
    mask = config.mask_token_id
    unknown = tokenizer.convert_ids_to_tokens(mask) is None
    if unknown or tokenizer.mask_token_id not in (None, mask):
        return f"config.json has mask_token_id {mask}, which is not the tokenizer's mask token; use matching files"
    # Fewer tokens than the model has are normal: published embeddings are padded.
    if len(tokenizer) > config.vocab_size:
        return f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}; use matching files"
    if tokenizer.eos_token_id is None:
        return "the tokenizer has no eos_token, which ends and pads a response; add it to tokenizer_config.json"
    if tokenizer.chat_template is None:
        return "the tokenizer has no chat template; add chat_template to tokenizer_config.json (source: local)"
    return None


def check_weights(folder: Path, layout: Layout) -> int:
    """Check the headers of a model's weight files; return the number of parameters. Raises InputError."""
    model = layout.empty_model()
    _check_weights(folder, layout, model)
    return sum(p.numel() for p in model.parameters())


def _check_weights(folder: Path, layout: Layout, model: LladaForMaskedDiffusion) -> dict[Path, Header]:
    """Return the headers of the weight files. Raises InputError unless they match the model's weights."""
    wanted = {}
    for name, value in model.state_dict().items():
        wanted[layout.stored_name(name)] = list(value.shape)
    headers = {file: _header(file) for file in weight_files(Path(folder))}
    found: Header = {}
    for header in headers.values():
        found |= header
    # A tied head is in the file or not.
    if layout.config.tie_word_embeddings and HEAD_WEIGHT not in found:
        del wanted[HEAD_WEIGHT]

    misshapen = set()
    quantised = set()
    for name in wanted.keys() & found.keys():
        shape, dtype = found[name]
        if shape != wanted[name]:
            misshapen.add(f"{name} {shape} instead of {wanted[name]}")
        if dtype not in NUMBERS:
            quantised.add(f"{name} {dtype}")

    # Report every mismatch at once: a single fault often explains a hundred wrong names.
    lists = {
        "missing": wanted.keys() - found.keys(),
        "unexpected": found.keys() - wanted.keys(),
        "of another shape": misshapen,
        "quantised": quantised,
    }
    said = [f"{len(names)} {what} ({_some(names)})" for what, names in lists.items() if names]
    if said:
        raise InputError(
            f"{folder}: weights do not match config.json: {'; '.join(said)}. Download or copy the complete checkpoint."
        )
    if layout.config.tie_word_embeddings and HEAD_WEIGHT in found:
        _check_tied(headers)
        for header in headers.values():
            header.pop(HEAD_WEIGHT, None)  # it is read with the embedding
    return headers


def _check_tied(headers: dict[Path, Header]) -> None:
    """Raise InputError if a stored head is not the embedding although config.json ties the two."""
    ends = {}
    for file, header in headers.items():
        for name in header.keys() & {EMBEDDING_WEIGHT, HEAD_WEIGHT}:
            with safe_open(file, "pt") as shard:
                ends[name] = shard.get_tensor(name)
    if not torch.equal(ends[EMBEDDING_WEIGHT], ends[HEAD_WEIGHT]):
        raise InputError(
            f"{file.parent / 'config.json'}: tie_word_embeddings is true, but the stored {HEAD_WEIGHT} is not "
            f"{EMBEDDING_WEIGHT}; set tie_word_embeddings to false in a copy of the folder to use the stored head"
        )


def _some(names: set[str]) -> str:
    """List the first few of many names."""
    listed = ", ".join(sorted(names)[:6])
    if len(names) > 6:
        return f"{listed}, …"
    return listed


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint: those named in its index, or the only one.

    Raises InputError if a file is missing or if there are only pickle files.
    """
    if (folder / INDEX).exists():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(map(_is_file_name, places.values())):
            raise InputError(
                f"{folder / INDEX}: no weight_map from weights to file names; download or copy the complete checkpoint"
            )
        files = [folder / name for name in sorted(set(places.values()))]
    elif (folder / SINGLE).exists():
        files = [folder / SINGLE]
    elif pickles := {file.name for file in folder.glob("*") if file.suffix in PICKLES}:
        raise pickled(folder, pickles)
    else:
        raise InputError(f"{folder}: has neither {INDEX} nor {SINGLE}; download or copy the complete checkpoint")
    lacking = {file.name for file in files if not file.exists()}
    if lacking:
        raise InputError(
            f"{folder}: missing {_some(lacking)}, named in {INDEX}; download or copy the complete checkpoint"
        )
    return files


def _is_file_name(name: object) -> bool:
    """Return True for a plain file name: an index must not make us read files outside of the folder."""
    return isinstance(name, str) and Path(name).name == name


def pickled(folder: Path, names: set[str]) -> InputError:
    """Return the error for weights in pickle files, with the command that converts them."""
    # Without code from the file (weights_only), and without sharing of memory, which safetensors cannot store.
    old = min(names)
    new = f"{Path(old).stem}.safetensors".replace("pytorch_model", "model")
    command = (
        "python -c 'import torch; from safetensors.torch import save_file; "
        f'w = torch.load("{old}", map_location="cpu", weights_only=True); '
        f'save_file({{k: v.clone().contiguous() for k, v in w.items()}}, "{new}", {{"format": "pt"}})\''
    )
    return InputError(
        f"{folder}: its weights are pickle files ({_some(names)}), which can run code when read and are never loaded; "
        f"convert them to safetensors in that folder, one by one, in an isolated environment: {command}"
    )


def _header(file: Path) -> Header:
    """Read shape and dtype of every weight in a file. Raises InputError if the file is shorter than its header says."""
    try:
        with safe_open(file, "pt") as shard:
            header: Header = {}
            for name in shard.keys():  # noqa: SIM118 (not a mapping)
                part = shard.get_slice(name)
                header[name] = Stored(part.get_shape(), part.get_dtype())
            return header
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: damaged or truncated ({error}); download or copy it again") from error
