"""A decoder in words: a text and what follows it, a conversation and its answer, piece by piece as they come."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from microbert_course.errors import CourseError
from microbert_course.models.gpt import GptForCausalLM, stream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase",  # the one saved with the model
    text: str,
) -> list[int]:
    """A text's ids as a continuation needs them: with the token that a text begins with, if the tokenizer has one, and without an end.

    Raises: CourseError if no token is left."""
    ids, edges = tokenizer(text, verbose=False)["input_ids"], tokenizer("")["input_ids"]
    if edges and edges[-1] in (tokenizer.sep_token_id, tokenizer.eos_token_id):
        ids = ids[:-1]
    if not ids:
        raise CourseError("the text is empty, and there is nothing to continue: give at least one word")
    return ids


def continue_text(
    model: GptForCausalLM,
    tokenizer: "PreTrainedTokenizerBase",  # the one saved with the model
    text: str,
    **sampling,  # max_new_tokens, temperature, top_k, top_p, repetition_penalty, generator: as in `stream`
) -> Iterator[str]:  # pieces of text; together what follows
    """What may follow, as it is found.

    Raises: CourseError if there is no text, it and its continuation do not fit into the model, or a setting is outside its range."""
    yield from _pieces(model, tokenizer, prompt_ids(tokenizer, text), sampling)


def reply(
    model: GptForCausalLM,
    tokenizer: "PreTrainedTokenizerBase",  # one with a chat template
    messages: list[dict[str, str]],  # "role": "user" or "assistant", "content": what was said
    **sampling,  # as in `continue_text`
) -> Iterator[str]:  # pieces of text; together the answer
    """The answer to a conversation, as it is found.

    Raises: CourseError if the tokenizer has no chat template, or as `continue_text` does."""
    if not tokenizer.chat_template:
        raise CourseError("the model's tokenizer has no chat template: choose a model that was taught to converse, such as smollm2")
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    yield from _pieces(model, tokenizer, tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"], sampling)


def _pieces(model: GptForCausalLM, tokenizer: "PreTrainedTokenizerBase", ids: list[int], sampling: dict) -> Iterator[str]:
    "Text by text, each as soon as it stands: half a letter of several bytes waits for its other half."
    ids, device = list(ids), model.output_table()[0].device
    shown = tokenizer.decode(ids, skip_special_tokens=True)
    for tokens in stream(model, torch.tensor([ids], device=device), **sampling):
        ids.append(int(tokens[0]))
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(shown):]
            shown = text
