"Fine-tuning with low-rank changes: few numbers are trained, and what is saved opens in transformers and in peft."

from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from small_run import small_data
from transformers import AutoModelForSequenceClassification

from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.models.lora_folders import has_adapters
from microbert_course.posttraining.classification import load_sft_model, train_sft_model_selective
from microbert_course.posttraining.common import plain
from microbert_course.posttraining.settings import FinetuneConfig


@pytest.fixture
def config(tmp_path):
    "Sentences with the label that their first adjective says, and an encoder of two blocks that knows nothing yet."
    tokenizer = small_data().tokenizer
    torch.manual_seed(0)
    MicroBert(MicroBertConfig(len(tokenizer), hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_seq_len=16), with_pooler=True).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [f"the {word} film was {other} {end} .,{label}" for word, label in (("good", "up"), ("bad", "down")) for other in ("odd", "long") for end in ("plot", "cast", "scene", "film", "end")]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows * 3))
    return FinetuneConfig(model=str(tmp_path / "base"), data=str(tmp_path / "rows.csv"), max_seq_len=16, lora_rank=4, batch_size=4, num_epochs=2,
                          learning_rate=1e-2, device="cpu", num_threads=1)


def test_few_numbers_are_trained_and_both_libraries_open_the_folder(config, tmp_path):
    "The merged weights, and the adapter on its base, say the same in transformers and peft as ours does here."
    run = train_sft_model_selective(config, tmp_path / "run", progress=False)
    head = 32 * 32 + 32 + 32 * 2 + 2
    assert run.trained == 2 * 2 * 4 * (32 + 32) + head and not any(map(has_adapters, run.model.modules()))
    model, tokenizer = load_sft_model(run.folder)
    texts = tokenizer(["the good film was odd .", "the bad plot"], padding=True, return_tensors="pt")
    ours = model(texts["input_ids"], texts["attention_mask"])
    best = run.folder / "best"
    merged = AutoModelForSequenceClassification.from_pretrained(best).eval()
    assert torch.allclose(merged(**texts).logits, ours, atol=1e-5)
    base = AutoModelForSequenceClassification.from_pretrained(config.model).eval()
    adapted = PeftModel.from_pretrained(base, best / "adapter").eval()
    assert torch.allclose(adapted(**texts).logits, ours, atol=1e-5)


def test_an_interrupted_run_goes_on_to_the_bit(config, tmp_path):
    "A is drawn from the seed, B and the head come from the checkpoint."
    whole = train_sft_model_selective(config, tmp_path / "whole", progress=False)

    def interrupt(model, score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft_model_selective(config, tmp_path / "run", progress=False, on_evaluation=interrupt)
    resumed = train_sft_model_selective(config, tmp_path / "run", progress=False, resume="latest")
    weights = resumed.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in whole.model.state_dict().items())
    assert resumed.trained == whole.trained


def test_a_model_without_adapters_is_plain_already():
    model = torch.nn.Linear(2, 2)
    assert plain(model) is model


@pytest.mark.parametrize(("changes", "said"), [({"layers": "last_2"}, "layers is 'last_2' and lora_rank 4"), ({"lora_alpha": 0.0}, "lora_alpha is 0.0"),
                                               ({"lora_rank": -1}, "lora_rank is -1: give 0 or more")])
def test_settings_that_make_no_sense_are_named(config, changes, said):
    with pytest.raises(CourseError, match=said):
        replace(config, **changes)


def test_a_target_that_is_no_linear_is_named(config, tmp_path):
    with pytest.raises(CourseError, match="no linear .* 'querry': did you mean 'query'"):
        train_sft_model_selective(replace(config, lora_targets="querry"), tmp_path / "run", progress=False)
