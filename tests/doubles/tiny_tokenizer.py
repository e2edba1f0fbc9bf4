"""A byte-level tokenizer in the file format of Qwen2.5-VL, with a vocabulary of a few hundred.

Or the real one, copied from wherever its files are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusers import QwenImageEditPlusPipeline
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

IMAGE_TOKEN = "<|image_pad|>"
VIDEO_TOKEN = "<|video_pad|>"
VISION_START_TOKEN = "<|vision_start|>"
VISION_END_TOKEN = "<|vision_end|>"
CONFIG_FILE = "tokenizer_config.json"
FILES = ("vocab.json", "merges.txt", CONFIG_FILE)

# In the order of the real ids, which start at 151643. Those of the second tuple are not "special":
# decoding keeps them.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    VISION_START_TOKEN,
    VISION_END_TOKEN,
    "<|vision_pad|>",
    IMAGE_TOKEN,
    VIDEO_TOKEN,
)
PLAIN_ADDED_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)


def prompt_template() -> tuple[str, int]:
    """The pipeline's prompt template and the number of tokens it drops from the front."""
    pipeline: Any = QwenImageEditPlusPipeline(*[None] * 6)
    return pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx


def build_tokenizer(folder: Path) -> Qwen2Tokenizer:
    """Write `vocab.json`, `merges.txt` and the configuration to `folder` and load them.

    Byte-level BPE over the full byte alphabet, so no text has an unknown token. Every word of the
    prompt template is one token, as in the real vocabulary: the pipeline drops a fixed number of
    tokens and would otherwise cut at the wrong place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = _write_vocabulary(folder, prompt_template()[0] + "Picture 1: ")
    config = json.dumps(_config(size), indent=2, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
    return _load(folder)


def copy_tokenizer(source: Path, folder: Path) -> Qwen2Tokenizer:
    """Copy the files of a real tokenizer from `source` to `folder` and load them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy2(source / name, folder)
    return _load(folder)


def _load(folder: Path) -> Qwen2Tokenizer:
    template, dropped = prompt_template()
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    head = template.partition("{}")[0]
    assert len(tokenizer(head)["input_ids"]) == dropped, "the template head has another length"
    return tokenizer


def _write_vocabulary(folder: Path, text: str) -> int:
    """Learn merges until every word of `text` is one token; return the size of the vocabulary."""
    learner = Tokenizer(models.BPE())
    # The real pre-tokenizer is private to the class; an empty instance lends it.
    learner.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,  # more than the text can fill: learning ends when nothing is left
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(_pieces(text), trainer)
    learner.model.save(str(folder))
    return int(learner.get_vocab_size())


def _pieces(text: str) -> Iterator[str]:
    """The stretches of `text` between special tokens."""
    return (piece for piece in re.split(r"<\|\w+\|>", text) if piece)


def _config(first_id: int) -> dict[str, Any]:
    """`tokenizer_config.json` with the added tokens numbered from `first_id`."""
    added = {
        str(first_id + index): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL_TOKENS,
        }
        for index, token in enumerate(SPECIAL_TOKENS + PLAIN_ADDED_TOKENS)
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
