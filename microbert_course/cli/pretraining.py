"""Commands that train an encoder."""

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import tyro

from microbert_course.cli.answer import is_first_process
from microbert_course.cli.training import TrainingCommand
from microbert_course.errors import CourseError
from microbert_course.paths import runs_dir
from microbert_course.training.presets import PRESETS, PretrainConfig, preset


@dataclass(frozen=True)
class Pretrain(TrainingCommand, PretrainConfig):
    """Pretrain an encoder or a decoder: a preset, with any of its settings changed. `microbert presets` lists them."""

    preset: tyro.conf.Positional[str] = "tour"
    """The preset to start from; the defaults shown here are its own. `auto` takes the largest that the GPU here can train."""
    target_params: int = 0
    """About how many parameters the model should have, as in 10M; its shape is then found, with modern blocks. 0 = the preset's shape."""
    prefer: Literal["depth", "balanced", "width"] = "balanced"
    """What kind of shape --target-params finds."""
    defaults_of: tyro.conf.Suppress[str] = "tour"
    """The preset that the defaults are from."""

    def run(self) -> None:
        "Train, then say what was reached and where it is."
        from microbert_course.training.choose import choose_preset, with_target_params
        from microbert_course.training.run import pretrain

        if self.preset not in (self.defaults_of, "auto"):
            raise CourseError(f"name the preset first, so that its settings are the defaults: microbert pretrain {self.preset} …")
        config = self.settings(PretrainConfig)
        if self.preset == "auto":
            name, chosen, why = choose_preset()
            changed = {field.name: getattr(config, field.name) for field in fields(PretrainConfig)
                       if getattr(config, field.name) != getattr(preset(self.defaults_of), field.name)}
            config = replace(chosen, **changed)
            if is_first_process():
                print(f"auto is {name}: {why}")
        if self.target_params:
            config = with_target_params(config, self.target_params, self.prefer)
        result = self.trained(pretrain, config, runs_dir() / self.preset)
        if not is_first_process():
            return
        final, baseline = result.history["validation"][-1], result.history["unigram_loss"]
        verdict = "better" if final["loss"] < baseline else "WORSE"
        asked = "next tokens" if config.blocks == "gpt" else "hidden tokens"
        print(f"validation loss {final['loss']:.3f} nats, {abs(baseline - final['loss']):.3f} {verdict} than the unigram "
              f"baseline of {baseline:.3f}; {final['accuracy']:.1%} of the {asked} guessed right\n{result.folder}")


def with_counts(arguments: list[str]) -> list[str]:  # ["--max-texts", "500k"] becomes ["--max-texts", "500000"]
    "Numbers with a k, M or B after them, written out."
    units = {"k": 10**3, "M": 10**6, "B": 10**9}

    def written_out(word: str) -> str:
        option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMB])", value)
        return f"{option}{equals}{round(float(found[1]) * units[found[2]])}" if found else word

    return [written_out(word) for word in arguments]


def with_preset_first(arguments: list[str]) -> list[str]:  # ["--max-texts", "9", "--preset", "v1"] becomes ["v1", "--max-texts", "9"]
    "The words after `microbert pretrain`, with a preset that is given as an option where a preset is read."
    for place, word in enumerate(arguments):
        option, equals, name = word.partition("=")
        if option == "--preset" and (equals or place + 1 < len(arguments)):
            rest = arguments[:place] + arguments[place + (1 if equals else 2) :]
            return [name if equals else arguments[place + 1], *rest]
    return arguments


def pretrain_defaults(arguments: list[str]) -> Pretrain:  # the words after `microbert`
    "The settings of the preset that the words name, so that they are the defaults of all other options."
    named = arguments[:1] == ["pretrain"] and len(arguments) > 1 and not arguments[1].startswith("-")
    name = arguments[1] if named and arguments[1] != "auto" else "tour"
    return Pretrain(**asdict(preset(name)), preset=name, defaults_of=name)


@dataclass
class Presets:
    """List the presets: shape, data, and true parameter counts."""

    def run(self) -> None:
        "Print the table."
        import torch

        from microbert_course.training.build import make_model

        print(f"{'name':9} {'blocks':7} {'shape':32} {'text as':22} {'precision':9} {'rows':>5} {'steps':>7} {'parameters':>12} {'with head':>12}")
        for name, config in PRESETS.items():
            with torch.device("meta"):
                model = make_model(config, config.num_pieces)
            shape = f"{config.num_layers} × {config.hidden_size}, {config.num_heads} heads, {config.max_seq_len} tokens"
            rows = f"{config.rows_per_process or config.batch_size}{'*' if config.rows_per_process else ''}"
            print(f"{name:9} {config.blocks:7} {shape:32} {f'{config.vocab_size:,} {config.tokenizer}':22} {config.mixed_precision:9} {rows:>5} "
                  f"{config.num_steps:7,} {model.num_parameters(with_head=False):12,} {model.num_parameters():12,}")
        print("rows: an update, over all processes; * = of each process")
