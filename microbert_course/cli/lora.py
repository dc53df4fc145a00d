"""Commands for adapters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Merge:
    """Add an adapter to the model it was trained on: a plain folder, which transformers opens without peft."""

    model: Path
    """The model's folder: a BERT or a Llama of transformers, or what a run wrote."""
    adapter: Path
    """The adapter's folder, with adapter_config.json and adapter_model.safetensors, ours or peft's."""
    to: Path
    """A new folder for the result."""

    def run(self) -> None:
        "Write the folder, and print its name."
        from microbert_course.models.lora_folders import merge_folders

        merge_folders(self.model, self.adapter, self.to)
        print(self.to)


@dataclass
class Show:
    """Say what an adapter changes: its rank, alpha, targets and size."""

    adapter: tyro.conf.Positional[Path]
    """The adapter's folder."""

    def run(self) -> None:
        "Print three lines."
        from microbert_course.models.lora_folders import read_adapter

        saved = read_adapter(self.adapter)
        print(f"rank {saved.config.lora_rank}, alpha {saved.config.lora_alpha:g}: changes times {saved.config.scale:.4g}\n"
              f"{len(saved.changes)} linears: {', '.join(saved.config.targets)}\n{saved.num_parameters:,} numbers"
              + (f", those of {' and '.join(saved.config.also_train)} included" if saved.copies else ""))


@dataclass
class Lora:
    """Work with LoRA adapters: merge, show."""

    command: Annotated[Merge, tyro.conf.subcommand("merge")] | Annotated[Show, tyro.conf.subcommand("show")]

    def run(self) -> None:
        "Run the command that was named."
        self.command.run()
