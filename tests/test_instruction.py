"Instruction tuning: what is asked and what is learned, answers that are read and scored, and runs that resume, for decoders and encoder-decoders."

import json
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from shared_data import shared
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from microbert_course.data.mixture import Mixture
from microbert_course.data.packing import Example
from microbert_course.data.sources import DataError
from microbert_course.data.weights import find_weights
from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.gpt_folders import load_decoder
from microbert_course.models.gpt_text import prompt_ids
from microbert_course.models.lora_folders import has_adapters
from microbert_course.posttraining.encoder_decoder import (
    AnswerLoss,
    EncoderDecoder,
    EncoderDecoderForm,
    load_encoder_decoder,
)
from microbert_course.posttraining.instruction import (
    ENCODERS,
    DecoderForm,
    SftBatch,
    SftData,
    SftResult,
    asked,
    can_be_checked,
    encode_sets,
    fingerprint,
    form_of,
    instruction_tuning,
    is_right,
    load_learner,
    parse_label,
    score_answers,
    score_sets,
    score_test,
    to_example,
    train_sft,
    with_template,
    write_answers,
)
from microbert_course.posttraining.instruction_data import SftExamples, gather, hold_out, read_examples, spread
from microbert_course.posttraining.settings import SftConfig
from microbert_course.training.engine import make_accelerator

WORDS = "good bad odd long film plot cast scene end the was review : ? one two and plus is 1 2 3 4 5 6".split()
SMALL = SftConfig(model="made", num_epochs=0, num_steps=40, warmup_steps=4, eval_every=20, batch_size=8, learning_rate=1e-2, max_seq_len=24, max_new_tokens=3,
                  num_threads=1, device="cpu")


def verdict(first, noun, second):
    "A review whose first adjective says the label."
    return {"prompt": f"review : the {first} {noun} was {second} ?", "answer": first, "kind": "classification", "labels": ["good", "bad"], "final": first}


def sums():
    "Sums up to 6, each with its number."
    return [{"prompt": f"{a} plus {b} is", "answer": str(a + b), "kind": "math", "labels": [], "final": str(a + b)} for a, b in product(range(1, 4), repeat=2)]


VERDICTS = [verdict(*parts) for parts in product(("good", "bad"), ("film", "plot", "cast", "scene", "end"), ("odd", "long", "good", "bad"))]


@pytest.fixture(scope="module")
def tokenizer():
    "A token a word; no marks around a text."
    signs = ["<pad>", "<s>", "</s>", "<unk>"]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate([*signs, *WORDS])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def decoder(**changes):
    torch.manual_seed(0)
    return GptForCausalLM(GptConfig(**{"vocab_size": len(WORDS) + 4, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1,
                                       "intermediate_size": 64, "max_seq_len": 32, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.1, **changes}))


def form_for(tokenizer, **changes):
    return DecoderForm(tokenizer, replace(SMALL, **changes), decoder())


# --- what is asked, and what is learned

def test_only_the_answer_is_asked_for():
    "On paper: the prompt 5 6 7 with the answer 8 9; 7 asks for 8, 8 for 9, and 9 for nothing."
    example = to_example([5, 6, 7], [8, 9])
    assert isinstance(example, Example)
    assert example.ids.tolist() == [5, 6, 7, 8, 9] and example.labels.tolist() == [-100, -100, 8, 9, -100]
    for parts in (([], [8]), ([5], [])):
        with pytest.raises(CourseError, match="give at least one of each"):
            to_example(*parts)


def test_every_answer_ends_with_the_end_also_where_padding_is_the_same_token(tokenizer):
    "SmolLM2 fills rows up with the token that ends a text; the last token of an answer is learned all the same."
    form = DecoderForm(tokenizer, SMALL, decoder(pad_token_id=2))
    examples = form.encode(VERDICTS[:2] + sums()[:1])
    assert all(example.labels[-2] == 2 for example in examples)
    for packing in (True, False):
        form.packing = packing
        batch = form.batch(examples)
        assert int((batch.labels == 2).sum()) == 3 and int((batch.labels != -100).sum()) == 6


def test_a_model_without_an_end_is_refused(tokenizer):
    with pytest.raises(CourseError, match="made has no eos_token_id, so no answer could end"):
        DecoderForm(tokenizer, SMALL, decoder(eos_token_id=None))


def test_a_tokenizer_without_a_template_gets_a_plain_one(tokenizer, tmp_path):
    "It is saved with it; a template of its own is kept, unless the prompt says otherwise; the original stays as it was."
    plain = with_template(tokenizer)
    assert tokenizer.chat_template is None and asked("the film", plain) == "the film\n"
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "{3}"}]
    assert plain.apply_chat_template(talk, tokenize=False) == "one\ntwo</s>{3}\n"
    assert with_template(plain) is plain
    other = with_template(plain, 'review : "{prompt}"\\ is')
    assert asked("a \\n {b}", other) == 'review : "a \\n {b}"\\ is' and asked("x", plain) == "x\n"
    assert asked("ä", with_template(plain, "🙂 é {prompt}")) == "🙂 é ä"
    other.save_pretrained(tmp_path)
    assert asked("x", AutoTokenizer.from_pretrained(tmp_path)) == 'review : "x"\\ is'


def test_what_a_tokenizer_puts_before_a_text_is_in_the_template():
    "A decoder whose rows began with a token in pretraining is asked with it; the end that a BERT's tokenizer adds is not."
    from tokenizers.processors import TemplateProcessing
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "film": 3, "[UNK]": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    marked = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")
    assert asked("film", with_template(marked, end="[SEP]")) == "[CLS]film\n"
    form = DecoderForm(marked, SMALL, decoder())
    (example,) = form.encode([{"prompt": "film", "answer": "film"}])
    assert example.ids.tolist() == [1, 3, 3, 2] and example.labels.tolist() == [-100, 3, 2, -100]


def test_smollm2_is_asked_as_it_was_taught():
    "The prompt and its answer together are what its chat template writes, and the answer's first token is asked for by the template's last."
    if find_weights("smollm2") is None:
        pytest.skip("SmolLM2 is not on this machine: microbert fetch smollm2")
    from microbert_course.training.causal import decoder_tokenizer
    tokenizer = decoder_tokenizer()
    form = DecoderForm(tokenizer, replace(SMALL, max_seq_len=200), SimpleNamespace(config=SimpleNamespace(eos_token_id=2, pad_token_id=2)))
    (example,) = form.encode([verdict("good", "film", "odd")])
    talk = [{"role": "user", "content": verdict("good", "film", "odd")["prompt"]}, {"role": "assistant", "content": "good"}]
    assert tokenizer.decode(example.ids) == tokenizer.apply_chat_template(talk, tokenize=False).rstrip("\n")
    assert tokenizer.decode(example.labels[example.labels != -100]) == "good<|im_end|>"


# --- answers are read

@pytest.mark.parametrize(("text", "found"), [
    ("positive", "positive"), (" Positive.", "positive"), ("It is **negative**, I think", "negative"), ("positive positive", "positive"),
    ("positive or negative", None), ("", None), ("nonpositive", None), ("non-negative", None), ("not positive", None), ("very", None)])
def test_a_label_is_read_where_it_is_clear(text, found):
    assert parse_label(text, ["negative", "positive"]) == found


@pytest.mark.parametrize(("text", "found"), [
    ("not_equivalent", "not_equivalent"), ("Not equivalent.", "not_equivalent"), ("not-equivalent", "not_equivalent"), ("equivalent", "equivalent"),
    ("equivalent, not not_equivalent", "equivalent")])
def test_a_label_within_another_is_not_read_twice(text, found):
    assert parse_label(text, ["equivalent", "not_equivalent"]) == found
    assert parse_label("Very good.", ["very", "good", "very good"]) == "very good"


@pytest.mark.parametrize(("text", "found"), [("B", "B"), ("(B)", "B"), ("B. blue", "B"), ("The answer is B", "B"), ("A bird is B.", "B"), ("b", None), ("A or B", "B"),
                                             ("A, B", None), ("Blue", None)])
def test_a_letter_counts_by_itself(text, found):
    assert parse_label(text, list("ABCD")) == found


def test_what_cannot_be_read_is_wrong_and_counted():
    "Labels and numbers are counted apart; what has no one right answer is passed over."
    free = {"prompt": "?", "answer": "a tale", "kind": "instruction", "labels": [], "final": ""}
    fraction = {**sums()[0], "final": "x^2"}
    assert [can_be_checked(example) for example in (VERDICTS[0], sums()[0], free, fraction)] == [True, True, False, False]
    examples, texts = [VERDICTS[0], VERDICTS[0], VERDICTS[0], sums()[0], sums()[0], free], ["good", "bad", "long", "1 and 1 is 2", "many", "anything"]
    assert [is_right(text, example) for example, text in zip(examples[:5], texts, strict=False)] == [True, False, None, True, None]
    assert score_answers(examples, texts) == {"accuracy": 1 / 3, "exact": 1 / 2, "unparsed": 2, "answered": 5}
    assert score_answers([free], ["x"]) == {}
    apart = score_sets([("a/verdicts.jsonl", VERDICTS[0]), ("a/verdicts.jsonl", VERDICTS[-1]), ("sums", sums()[0])], ["good", "good", "2"])
    assert apart == {"accuracy": 0.5, "exact": 1.0, "unparsed": 0, "answered": 3, "accuracy_verdicts": 0.5, "exact_sums": 1.0}


# --- batches

def loss_and_gradients(model, form, examples, parts=1):
    "Of a batch, in so many parts as micro-batches or processes would take."
    batch, size, total = SftBatch(examples, form), len(examples) // parts, 0.0
    model.zero_grad()
    for start in range(0, len(examples), size):
        loss, _ = form.objective(model)(*batch.slice(start, start + size).tensors("cpu"))
        (loss / batch.num_predicted).backward()
        total += loss.item() / batch.num_predicted
    return total, torch.cat([weight.grad.flatten() for weight in model.parameters()])


def test_packing_changes_the_cost_and_not_the_result(tokenizer):
    "One row or many, whole or in micro-batches: the same loss and the same gradient; the packed rows are fewer."
    model, packed, padded = decoder(), form_for(tokenizer, packing=True), form_for(tokenizer, packing=False)
    examples = packed.encode(VERDICTS[:5] + sums()[:3])
    loss, gradients = loss_and_gradients(model, padded, examples)
    for form, parts in ((packed, 1), (packed, 2), (padded, 4)):
        again, found = loss_and_gradients(model, form, examples, parts)
        assert again == pytest.approx(loss, rel=1e-5) and torch.allclose(found, gradients, atol=1e-6)
    assert len(packed.batch(examples).input_ids) < len(padded.batch(examples).input_ids) == 8
    batch = SftBatch(examples, packed)
    assert batch.num_tokens == sum(len(example.ids) for example in examples) and batch.num_predicted == 16


def test_what_is_drawn_is_a_function_of_the_step(tokenizer):
    "Sets come at their rates, whatever was asked before."
    form = form_for(tokenizer)
    sets, _ = encode_sets({"verdicts": VERDICTS, "sums": sums()}, form, SMALL)
    data = SftData(tokenizer, sets, Mixture({name: len(found) for name, found in sets.items()}, {"verdicts": 0.75, "sums": 0.25}), form)
    steps = [data.batch(step, SMALL).examples for step in (7, 3, 7)]
    assert steps[0] == steps[2] != steps[1]
    drawn = [example for step in range(50) for example in data.batch(step, SMALL).examples]
    assert sum(any(example is one for one in sets["sums"]) for example in drawn) == 100


def test_what_is_too_long_is_refused_or_left_out(tokenizer):
    long = verdict("good", "film", " ".join(["odd"] * 30))
    form = form_for(tokenizer)
    with pytest.raises(CourseError, match="1 of 2 examples of films have more than max_seq_len 24 tokens.* with 39: give more, up to 39, or too_long leave_out"):
        encode_sets({"films": [VERDICTS[0], long]}, form, SMALL)
    encoded, num_long = encode_sets({"films": [VERDICTS[0], long]}, form, replace(SMALL, too_long="leave_out"))
    assert len(encoded["films"]) == num_long == 1
    with pytest.raises(CourseError, match="no example of films has 24 tokens or fewer"):
        encode_sets({"films": [long]}, form, replace(SMALL, too_long="leave_out"))


# --- runs

@pytest.fixture(scope="module")
def examples():
    return hold_out({"verdicts": VERDICTS * 3, "sums": sums() * 6}, {"verdicts": 0.7, "sums": 0.3}, num_validation=16)


@pytest.fixture(scope="module")
def run(tokenizer, examples, tmp_path_factory):
    with_test = replace(examples, test=[*examples.validation["verdicts"], {"prompt": "the", "answer": "a", "kind": "instruction", "labels": [], "final": ""}])
    return train_sft(SMALL, tmp_path_factory.mktemp("runs") / "sft", with_test, (decoder(), tokenizer), progress=False)


def test_a_decoder_learns_to_answer_two_tasks(run):
    "Before, it says anything; after, verdicts are right on prompts that it never saw, and every answer can be read and ends."
    start, end = run.history["start"], run.best
    assert isinstance(run, SftResult) and end["accuracy"] == 1.0 > start["accuracy"] + 0.4 and end["unparsed"] == 0 and end["answered"] == 15
    assert end["loss"] < 0.5 * start["loss"] and {"accuracy_verdicts", "exact_sums"} < end.keys()
    assert run.say([VERDICTS[0]["prompt"], VERDICTS[-1]["prompt"]], SMALL) == ["good", "bad"]
    assert run.test["accuracy"] == 1.0 and run.test["answered"] == 9
    rows = [json.loads(line) for line in (run.folder / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 10 and rows[0]["written"] == rows[0]["answer"]
    scores = json.loads((run.folder / "scores.json").read_text())
    assert scores["validation"] == run.best and scores["test"] == run.test and scores["start"] == start


def test_the_folder_opens_here_and_in_transformers(run, tokenizer):
    "The tokenizer says how the model is asked, in the run's folder and in that of its best state; both write what the run's model does."
    prompt = VERDICTS[0]["prompt"]
    for folder in (run.folder, run.folder / "best"):
        theirs, tokens = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
        ids = tokens.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        written = theirs.generate(**ids, max_new_tokens=3, do_sample=False)[0, ids["input_ids"].size(1):]
        assert tokens.decode(written, skip_special_tokens=True) == "good" and written.tolist()[-1] == 2
        model, ours = load_decoder(folder)
        assert asked(prompt, ours) == prompt + "\n" and prompt_ids(ours, prompt) == ids["input_ids"][0].tolist()
        assert torch.allclose(model(torch.tensor([[5, 6]])), theirs(torch.tensor([[5, 6]])).logits, atol=1e-5)


def test_an_interrupted_run_goes_on_to_the_bit(run, tokenizer, examples, tmp_path):
    "Other data, or another model, is refused."
    def interrupt(model, score):
        raise KeyboardInterrupt

    start = decoder(), tokenizer
    with pytest.raises(KeyboardInterrupt):
        train_sft(SMALL, tmp_path / "run", examples, start, progress=False, on_evaluation=interrupt)
    with pytest.raises(CourseError, match="not those of the checkpoint"):
        train_sft(SMALL, tmp_path / "run", replace(examples, rates={"verdicts": 0.5, "sums": 0.5}), start, progress=False, resume="latest")
    resumed = train_sft(SMALL, tmp_path / "run", examples, start, progress=False, resume="latest")
    weights = resumed.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())


def test_packed_and_padded_runs_reach_the_same(run, tokenizer, examples, tmp_path):
    padded = train_sft(replace(SMALL, packing=False, num_steps=10, eval_every=10), tmp_path / "run", examples, (decoder(), tokenizer), progress=False)
    packed = run.history["train"][:3]
    for ours, theirs in zip(packed, padded.history["train"][:3], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3) or ours["learning_rate"] != theirs["learning_rate"]


def test_low_rank_changes_are_saved_beside_the_merged_weights(tokenizer, examples, tmp_path):
    "Few numbers are trained, under transformers' names for Llama; peft opens the adapter on the base."
    decoder().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = replace(SMALL, model=str(tmp_path / "base"), lora_rank=2, num_steps=4, eval_every=4, warmup_steps=0)
    run = train_sft(config, tmp_path / "run", examples, progress=False)
    assert json.loads((run.folder / "training.json").read_text())["about"]["trainable_share"] < 0.1
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), run.folder / "adapter").eval()
    ids = torch.tensor([[5, 6, 7]])
    assert torch.allclose(adapted(ids).logits, load_decoder(run.folder)[0](ids), atol=1e-5) and not any(map(has_adapters, run.model.modules()))
    assert not torch.allclose(decoder()(ids), load_decoder(run.folder)[0](ids), atol=1e-3)


def test_epochs_are_counted_in_draws_of_the_mixture(tokenizer, examples, tmp_path):
    "108 and 49 rows at 0.7 and 0.3: 108 verdicts are drawn sooner than 49 sums."
    run = train_sft(replace(SMALL, num_epochs=1, num_steps=1_000, warmup_steps=0, eval_every=200, num_answered=0), tmp_path / "run", examples, (decoder(), tokenizer), progress=False)
    mixture = Mixture({name: len(found) for name, found in examples.train.items()}, examples.rates)
    assert len(run.history["train"]) == -(-mixture.epoch // 8) and "answered" not in run.best


def test_the_fingerprint_knows_data_template_and_weights(tokenizer):
    form = form_for(tokenizer)
    sets, _ = encode_sets({"sums": sums()}, form, SMALL)
    data = SftData(form.tokenizer, sets, Mixture({"sums": len(sets["sums"])}), form)
    whole = fingerprint(data, decoder())
    assert whole == fingerprint(data, decoder()) != fingerprint(data, decoder(initializer_range=0.2))
    assert whole != fingerprint(replace(data, tokenizer=with_template(tokenizer, "review : {prompt}")), decoder())
    assert whole != fingerprint(replace(data, sets={"sums": sets["sums"][:-1]}), decoder())
    moved = replace(data, sets={"elsewhere/sums": sets["sums"]}, mixture=Mixture({"elsewhere/sums": len(sets["sums"])}))
    assert whole == fingerprint(moved, decoder())


def test_answers_come_in_the_order_of_the_prompts(run, tokenizer, tmp_path):
    "Though like lengths are read together; and the task that the engine gets looks at the same examples."
    form, mixed = form_for(tokenizer), [VERDICTS[0], {**sums()[0]}, VERDICTS[-1]]
    texts = write_answers(run.model, form, mixed, 3)
    assert texts[0] == "good" and texts[2] == "bad"
    scores, again = score_test(run.model, form, mixed, SMALL)
    assert again == texts and scores["accuracy"] == 1.0
    sets, _ = encode_sets({"verdicts": VERDICTS}, form, SMALL)
    data = SftData(form.tokenizer, sets, Mixture({"verdicts": len(VERDICTS)}), form)
    task = instruction_tuning(run.model, form, data, SftExamples({"verdicts": VERDICTS}, {"verdicts": VERDICTS[:4]}), 0, make_accelerator(SMALL, tmp_path), SMALL)
    assert task.baseline["start"]["accuracy"] == 1.0 and task.metric == "loss" and task.about["held_out"] == 4


# --- encoder-decoders

def tiny_t5():
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(vocab_size=len(WORDS) + 4, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=0.0, pad_token_id=0,
                                               eos_token_id=2, decoder_start_token_id=0))


def tiny_bart():
    torch.manual_seed(0)
    return BartForConditionalGeneration(BartConfig(
        vocab_size=len(WORDS) + 4, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, max_position_embeddings=32, dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None))


@pytest.mark.parametrize("make", [tiny_t5, tiny_bart])
def test_an_encoder_decoder_goes_through_the_same_pipeline(make, tokenizer, tmp_path):
    "It learns, resumes to the bit, and transformers opens what is saved; its loss is that of transformers with labels."
    make().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config, examples = replace(SMALL, model=str(tmp_path / "base"), num_steps=60, eval_every=30, seed=1), hold_out({"verdicts": VERDICTS})
    run = train_sft(config, tmp_path / "run", examples, progress=False)
    assert isinstance(run.model, EncoderDecoder) and run.best["loss"] < 0.5 * run.history["start"]["loss"] and run.best["unparsed"] == 0
    assert score_answers(VERDICTS, run.say([example["prompt"] for example in VERDICTS], config))["accuracy"] >= 0.8
    theirs, tokens = AutoModelForSeq2SeqLM.from_pretrained(run.folder).eval(), AutoTokenizer.from_pretrained(run.folder)
    form = form_of(run.model, tokens, config)
    assert isinstance(form, EncoderDecoderForm)
    batch = SftBatch(form.encode([VERDICTS[0], {**sums()[0], "answer": "one two"}]), form)
    loss, num_right = AnswerLoss(run.model)(*batch.tensors("cpu"))
    ids, mask, labels = batch.tensors("cpu")
    assert labels.tolist() == [[4, 2, -100], [*tokens.convert_tokens_to_ids(["one", "two"]), 2]] and 0 <= num_right <= batch.num_predicted == 5
    assert loss.item() / batch.num_predicted == pytest.approx(theirs(input_ids=ids, attention_mask=mask, labels=labels).loss.item(), rel=1e-5)
    if make is tiny_t5:
        def interrupt(model, score):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_sft(config, tmp_path / "cut", examples, progress=False, on_evaluation=interrupt)
        resumed = train_sft(config, tmp_path / "cut", examples, progress=False, resume="latest").model.state_dict()
        assert all(torch.equal(value, resumed[name]) for name, value in run.model.state_dict().items())
    for name in ("lora_rank", "checkpointing"):
        with pytest.raises(CourseError, match=f"{name} is 1 .*encoder-decoder"):
            form_of(run.model, tokens, SimpleNamespace(**{**vars(config), name: 1}))


def test_a_folder_without_an_encoder_decoder_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    with pytest.raises(CourseError, match="holds no encoder-decoder that transformers opens"):
        load_encoder_decoder(tmp_path)


def test_an_encoder_is_sent_to_its_own_lesson(tokenizer, tmp_path):
    MicroBert(MicroBertConfig(40, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_seq_len=16), with_pooler=True).save_pretrained(tmp_path)
    for name in (str(tmp_path), "minilm"):
        with pytest.raises(CourseError, match=r"is an encoder \(bert\), which reads text and writes none: .*`microbert finetune --model .*\(lesson 17\)"):
            load_learner(name)
    assert "roberta" in ENCODERS
    with pytest.raises(CourseError, match="nowhere"):
        load_learner("nowhere")


def test_a_row_longer_than_the_model_reads_is_refused(tokenizer):
    with pytest.raises(CourseError, match="max_seq_len is 24 and the model in made reads 16 tokens: give at most that"):
        form_of(decoder(max_seq_len=16), tokenizer, SMALL)


def test_a_test_prompt_that_does_not_fit_is_named_before_anything_is_learned(tokenizer, examples, tmp_path):
    long = replace(examples, test=[verdict("good", "film", " ".join(["odd"] * 30))])
    with pytest.raises(CourseError, match="has 37 tokens and the model reads at most 32, new ones among them: leave it out"):
        train_sft(SMALL, tmp_path / "run", long, (decoder(), tokenizer), progress=False)
    assert not (tmp_path / "run.partial").exists()


# --- where examples come from

def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_file_is_read_by_its_columns_as_a_named_set_or_as_examples(tmp_path):
    "The same sentences, three ways to say what they are."
    rows = [{"sentence": f"the film {number}", "label": number % 2} for number in range(8)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    by_columns, named = read_examples(path), read_examples(f"sst2@{path}")
    assert by_columns[1]["labels"] == ["0", "1"] and named[1]["answer"] == "positive" and named[1]["prompt"].endswith("Sentiment:")
    assert read_examples(write_rows(tmp_path / "examples.jsonl", named)) == named
    assert len(read_examples("rotten_tomatoes", num_rows=3)) == 3 == len(read_examples("imdb", for_test=True, num_rows=3))


@pytest.mark.parametrize(("rows", "name", "sentence"), [
    ([{"sentence": "a", "label": 1}] * 3, "sst2@{path}", "have the label 'positive', and telling labels apart takes two"),
    ([{"instruction": "Sing.", "input": "", "output": ""}], "{path}", "line 1, column 'output': the answer is \"\": fill it in or delete the row"),
    ([{"sentence": "a", "label": 7}], "sst2@{path}", "line 1, column 'label': the label 7 is none of negative or positive"),
    ([{"sentence": "a"}], "sst2@{path}", "line 1: no column 'label', only 'sentence'"),
    ([{"text": "a tale"}], "{path}", "holds plain text, which asks nothing: pretrain on it"),
    ([{"prompt": "a", "answer": "", "kind": "math", "labels": [], "final": ""}], "{path}", "line 1: the answer is empty"),
    ([{"prompt": "a", "answer": "b", "kind": "math", "labels": [], "final": ""}, {"prompt": "a"}], "{path}", "line 2: there is no 'answer'"),
    ([], "sst3", "did you mean sst2"), ([], "finance_tasks", "has no split to learn with, only test: give a file of its rows, finance_tasks@FILE"),
    ([], "nowhere.jsonl", "nowhere.jsonl"), ([], "sst2@nowhere.jsonl", "nowhere.jsonl")])
def test_what_cannot_be_learned_from_is_one_sentence(tmp_path, rows, name, sentence):
    path = write_rows(tmp_path / "rows.jsonl", rows) if rows else ""
    with pytest.raises(DataError) as caught:
        read_examples(name.format(path=path))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_tested_is_not_learned_and_copies_stay_together():
    "A prompt of the test is taken out, however it is spelled; held-out prompts have no copy in training; the test set's sizes follow the rates."
    test = [{**VERDICTS[0], "prompt": VERDICTS[0]["prompt"].upper()}]
    found = hold_out({"verdicts": VERDICTS * 3, "sums": sums() * 20}, {"verdicts": 0.75, "sums": 0.25}, num_validation=20, test=test)
    assert found.num_copies == 3 and VERDICTS[0] not in found.train["verdicts"] + found.validation["verdicts"]
    for name, rows in found.train.items():
        assert not {row["prompt"] for row in rows} & {row["prompt"] for row in found.validation[name]}
    few = hold_out({"verdicts": VERDICTS, "sums": sums() + [{**sums()[0], "prompt": "none"}]}, {"verdicts": 0.75, "sums": 0.25}, num_validation=4)
    assert [len(few.validation[name]) for name in ("verdicts", "sums")] == [3, 1]
    assert {name for name, _ in spread(found.validation, 6)} == {"verdicts", "sums"} and spread(found.validation, 0) == []
    with pytest.raises(DataError, match="give at least two different ones"):
        hold_out({"one": VERDICTS[:1] * 5})
    with pytest.raises(CourseError, match="the rates sum to 0.9 and should sum to 1"):
        hold_out({"a": VERDICTS, "b": sums()}, {"a": 0.5, "b": 0.4})


def test_what_is_held_out_of_one_set_is_learned_from_no_other():
    "Two sets that share half of their prompts: none that is asked at a look is learned from, wherever it stands."
    sets = {"verdicts": VERDICTS, "others": VERDICTS[20:] + sums()}
    found = hold_out(sets, num_validation=8)
    learned = {row["prompt"] for rows in found.train.values() for row in rows}
    assert not learned & {row["prompt"] for rows in found.validation.values() for row in rows}
    assert found.num_copies == sum(map(len, sets.values())) - sum(map(len, [*found.train.values(), *found.validation.values()])) > 0
    asked_of_many = hold_out({"many": VERDICTS, "one": sums()[:2]}, num_validation=40).validation["many"]
    with pytest.raises(DataError, match="every example of one is held out of another set too"):
        hold_out({"many": VERDICTS, "one": asked_of_many[:2]}, num_validation=40)


def test_sums_that_differ_in_a_sign_are_no_copies():
    "3+4, 3-4 and 3*4 are three questions; the same one with other spaces or letters is a copy."
    rows = {sign: [{"prompt": f"What is {a}{sign}{b}?", "answer": "0", "kind": "math", "labels": [], "final": "0"} for a in range(3) for b in range(3)] for sign in "+-*"}
    found = hold_out({"minus": rows["-"], "times": rows["*"]}, num_validation=2, test=[*rows["+"], rows["*"][0] | {"prompt": "what  IS 0*0?"}])
    assert found.num_copies == 1 and sum(map(len, [*found.train.values(), *found.validation.values()])) == 17


def test_a_configuration_is_read_to_the_end(tmp_path):
    "A file to learn from, a part of it, and another to be tested on; two at their rates."
    parts = [write_rows(tmp_path / name, [{"sentence": f"{name} film {number}", "label": number % 2} for number in range(30)]) for name in ("a.jsonl", "b.jsonl")]
    found = gather(replace(SMALL, data=f"sst2@{parts[0]}", test=f"sst2@{parts[1]}", max_examples=20))
    assert len(found.train[f"sst2@{parts[0]}"]) == 18 and len(found.test) == 30 and found.rates is None
    both = gather(replace(SMALL, data=f"sst2@{parts[0]}=0.6,sst2@{parts[1]}=0.4"))
    assert list(both.rates.values()) == [0.6, 0.4] and all(len(rows) == 27 for rows in both.train.values())


def test_phrasebank_is_learned_from_real_rows():
    found = gather(SftConfig(data=f"phrasebank@{shared('finance/phrasebank.jsonl.gz')}", num_validation=390))
    (train,), (held_out,) = found.train.values(), found.validation.values()
    assert len(train) + len(held_out) == 3_901 and len(held_out) == 390
    assert {example["answer"] for example in train} == {"negative", "neutral", "positive"} and all(map(can_be_checked, held_out))


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"prompt": "no place"}, "has no place for the task: write {prompt}"), ({"num_validation": 0}, "num_validation is 0: give 1 or more"),
    ({"too_long": "cut"}, "too_long is 'cut': choose one of 'refuse', 'leave_out'"), ({"lora_alpha": 0.0}, "lora_alpha is 0.0"),
    ({"num_epochs": -1}, "num_epochs is -1"), ({"exhausted": "never"}, "exhausted is 'never'")])
def test_settings_that_make_no_sense_are_named(changes, sentence):
    with pytest.raises(CourseError) as caught:
        SftConfig(**changes)
    assert sentence in str(caught.value)
