"""Work recorded as a CUDA graph, and one token's step of a decoder as such: what would be a thousand small launches, each waiting for Python, is one."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from microbert_course.models.gpt import Gpt, KeyValueCache, LayerCache


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    "The one for runs before a recording: torch keeps tens of megabytes for the products of each stream that ever made one."
    return torch.cuda.Stream(device)


def record(
    work: Callable[[], Any],
    warm_ups: int,  # runs before anything is recorded: kernels are chosen and compiled, and memory is found
    pool: Any = None,  # memory that graphs share which run one after the other
) -> tuple[torch.cuda.CUDAGraph, Any]:  # to be replayed; what `work` answered, overwritten by each replay
    "What some work asks of the device, written down instead of done."
    side = _side_stream(torch.cuda.current_device())
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warm_ups):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        answer = work()
    return graph, answer


class FixedLayer:
    "A layer's cache whose shapes never change: the place to write at is a number on the device."

    def __init__(
        self,
        layer: "LayerCache",  # with what has been read so far
        place: Tensor,  # (1,) int64, where the next token stands
    ):
        self.keys, self.values, self.place = layer.keys, layer.values, place
        for tensor in (self.keys, self.values):
            tensor[:, :, layer.num_seen :] = 0  # memory that was never written may hold nan, and 0 times nan is nan

    def extend(
        self,
        key: Tensor,    # (batch, num_kv_heads, 1, head_dim)
        value: Tensor,  # (batch, num_kv_heads, 1, head_dim)
    ) -> tuple[Tensor, Tensor]:  # both (batch, num_kv_heads, room, head_dim); a mask has to hide what is not written yet
        "Write the new ones and answer all there is room for."
        self.keys.index_copy_(2, self.place, key)
        self.values.index_copy_(2, self.place, value)
        return self.keys, self.values


class GraphedStep:
    "Reads one token a row, again and again, from where a prompt's cache ends; the weights must stay where they are."

    def __init__(
        self,
        gpt: "Gpt",
        cache: "KeyValueCache",  # of the prompt, with room for what is to come; the step's own from here on
        mask: Tensor | None = None,  # (batch, room) bool, False = padding of the prompt
    ):
        first = cache.layers[0].keys
        batch, room, self.gpt, self.mask = first.size(0), first.size(2), gpt, mask
        self.place = torch.tensor([cache.num_seen], device=first.device)
        self.places = torch.arange(room, device=first.device)
        self.tokens = torch.zeros(batch, 1, dtype=torch.long, device=first.device)
        self.layers = [FixedLayer(layer, self.place) for layer in cache.layers]
        self.graph, self.last = record(self._compute, warm_ups=2)

    def _compute(self) -> Tensor:  # (batch, hidden)
        may_look = self.places <= self.place                                        # (room,)
        may_look = (may_look if self.mask is None else may_look & self.mask).view(-1, 1, 1, len(self.places))
        turns = self.gpt.turns(self.place[None])
        hidden_states = self.gpt.word(self.tokens)
        for block, layer in zip(self.gpt.blocks, self.layers, strict=True):
            hidden_states = block(hidden_states, attention_mask=may_look, position_ids=turns, cache=layer)
        return self.gpt.norm(hidden_states)[:, -1]

    def __call__(
        self, tokens: Tensor,  # (batch,) int64
    ) -> Tensor:  # (batch, hidden), overwritten by the next call
        "What the decoder says after these tokens."
        self.tokens.copy_(tokens[:, None])
        self.graph.replay()
        self.place += 1
        return self.last
