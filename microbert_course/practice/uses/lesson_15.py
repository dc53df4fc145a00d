"How answers to the exercises of lesson 15 are put to use."

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Processes:
    "Several processes that run one after another, twice: first to see what each sends, then to hear the sums."

    def __init__(self, num_processes: int):
        self.sent: list[list[Tensor]] = [[] for _ in range(num_processes)]

    def collect(self, rank: int) -> Callable[[Tensor], Tensor]:
        "An all-reduce for the first time: it notes what is sent, and answers that alone."
        def all_reduce(tensor: Tensor) -> Tensor:
            self.sent[rank].append(tensor.detach().clone())
            return tensor.detach().clone()
        return all_reduce

    def add_up(self, rank: int) -> Callable[[Tensor], Tensor]:
        "An all-reduce for the second time: what this process sends now, and what the others have sent."
        calls = iter(range(len(self.sent[rank])))

        def all_reduce(tensor: Tensor) -> Tensor:
            call = next(calls, None)
            if call is None or any(len(sent) <= call for sent in self.sent):
                raise TimeoutError("this process waits for ever: the others have not called all_reduce so often")
            return tensor.detach() + sum(sent[call] for other, sent in enumerate(self.sent) if other != rank)
        return all_reduce


def clipped(clip: Callable, pieces: list[list[Tensor]], max_norm: float) -> dict[str, Any]:  # pieces: of each process
    "The norm that each process comes to, and its gradients afterwards."
    processes = Processes(len(pieces))
    for rank, own in enumerate(pieces):
        clip([piece.clone() for piece in own], max_norm, processes.collect(rank))
    afterwards = [[piece.clone() for piece in own] for own in pieces]
    norms = [clip(list(own), max_norm, processes.add_up(rank)) for rank, own in enumerate(afterwards)]
    return {"the norms": norms, "the gradients": afterwards,
            "all processes call all_reduce equally often": len({len(sent) for sent in processes.sent}) == 1}
