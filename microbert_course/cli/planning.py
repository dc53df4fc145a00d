"""The command that says what a training will need, before it is begun."""

from dataclasses import dataclass
from typing import Literal

from microbert_course.errors import CourseError
from microbert_course.training.presets import PRESETS, preset


@dataclass
class Plan:
    """What a preset needs to train: bytes by what holds them, the largest batch that fits, and the cards that hold it,
    as in `microbert plan --preset v4 --batch 96 --precision bf16 --gpu 24GB`."""

    preset: str = "tour"
    """Whose shape to plan; `microbert presets` lists them."""
    batch: int = 0
    """Rows at a time, of one process and one micro-batch; 0 = the preset's."""
    seq: int = 0
    """Tokens in a row; 0 = the preset's."""
    precision: Literal["preset", "no", "fp16", "bf16"] = "preset"
    """Number format of the large products."""
    checkpointing: bool = False
    """Forget activations and compute them again."""
    attention: Literal["fused", "math"] = "fused"
    """math keeps the scores."""
    accumulating: bool = False
    """Several micro-batches an update, so that gradients stand all the time; a preset's own are seen without it."""
    processes: int = 1
    """With more than one, DDP keeps a second copy of the gradients, in its buckets."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where it is to run."""
    gpu: str = ""
    """Memory to fit into, as 24GB; what does not fit is refused, with status 1."""

    def run(self) -> None:
        """Print the plan.

        Raises: CourseError if there is no such preset, a size makes no sense, or it does not fit into --gpu."""
        import torch

        from microbert_course.training.loop import build_model
        from microbert_course.training.memory import (
            CARDS,
            check_fits,
            fits,
            largest_batch,
            parse_bytes,
            plan_memory,
            plan_moments,
        )

        changes = {"max_seq_len": self.seq} if self.seq else {}
        config = preset(self.preset, **changes)
        if config.blocks != "bert":
            raise CourseError(f"{self.preset} has {config.blocks} blocks, and the plan knows BERT's: train it for a few steps, or plan one of "
                              f"{', '.join(name for name, known in PRESETS.items() if known.blocks == 'bert')}")
        checkpointing = self.checkpointing or config.checkpointing
        rows = self.batch or config.batch_size // config.gradient_accumulation_steps
        if min(rows, self.processes) < 1:
            raise CourseError(f"{rows} rows and {self.processes} processes are no training: give 1 or more of each")
        memory = parse_bytes(self.gpu) if self.gpu else None
        with torch.device("meta"):  # shapes without memory
            shape = build_model(config, config.num_pieces).config
        precision = config.mixed_precision if self.precision == "preset" else self.precision
        if precision == "auto":
            precision = "bf16" if self.device == "cuda" else "no"
        settings = dict(precision=precision, checkpointing=checkpointing, attention=self.attention, device=self.device,
                        mlm_probability=config.mlm_probability, num_processes=self.processes,
                        accumulating=self.accumulating or config.gradient_accumulation_steps > 1)
        plan, moments = plan_memory(shape, rows, **settings), plan_moments(shape, rows, **settings)

        print(f"{self.preset}: {shape.num_layers} × {shape.hidden_size}, {shape.num_heads} heads, {shape.vocab_size:,} pieces; "
              f"{rows} rows of {shape.max_seq_len} tokens, precision {precision}, {self.attention} attention"
              f"{', checkpointed' if checkpointing else ''}, {self.device}")
        print(f"the worst moment of an update is {plan.moment}\n")
        print(f"{'':18} {'then':>10} {'share':>6} {'at most':>10}")
        for name, num_bytes in plan.parts.items():
            most = max(moment.parts[name] for moment in moments)
            print(f"{name.replace('_', ' '):18} {shown(num_bytes):>10} {num_bytes / plan.total:6.0%} {shown(most):>10}")
        print(f"{'in all':18} {shown(plan.total):>10} {1:6.0%}\n")
        if memory:
            print(f"largest batch in {shown(memory)}: {largest_batch(shape, memory, **settings):,} rows\n")
        if self.device == "cuda":
            print(f"{'card':18} {'largest batch':>13}   {rows:,} rows (a tenth of the card is left free)")
            for card, num_bytes in CARDS.items():
                verdict = "fit" if fits(plan, num_bytes) else "do not fit"
                remark = ", in fp16: it has no bf16" if precision == "bf16" and card.startswith("T4") else ""
                print(f"{card:18} {largest_batch(shape, num_bytes, **settings):13,}   {verdict}{remark}")
        if memory:
            check_fits(shape, rows, memory, **settings)


def shown(num_bytes: int) -> str:
    "Bytes as a person reads them."
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
