"""What is known of each data set: where it lives, which column plays which part, its labels, its prompt, its terms. Data alone; `registry` reads it.

Hub names, columns, labels and terms are as the hub's pages had them; what could not be looked up there is called "not verified" in the entry's note."""

from dataclasses import dataclass

KINDS = ("classification", "pairs", "regression", "question answering", "multiple choice", "instruction", "math", "code", "text")
OPTIONAL = ("input", "subject", "tables", "start", "tests", "final")  # roles that a row may leave empty; every other role must be filled
AS_PARQUET = "refs/convert/parquet"  # the hub's own copy of a set that is kept there as a script, which `datasets` no longer runs


@dataclass(frozen=True)
class Entry:
    """A data set. In the prompt, {role} is the text of that role's column, {labels} the label words, {choices} the lettered choices.

    A paragraph of the prompt is left out where its role is empty. The role `pairs` is a list of questions with answers: a row is several examples then."""

    name: str
    hub: str  # its name on the hub
    kind: str  # one of KINDS
    columns: dict[str, str | tuple[str, ...]]  # role: its column, or the names that the column goes by
    prompt: str = ""
    labels: tuple[str, ...] = ()  # label words, in the order of their numbers
    configs: tuple[str, ...] = ()  # the first one is the default; "20231101.*" stands for any ending
    splits: tuple[str, ...] = ("train",)  # those that have answers
    licence: str = "none stated"
    note: str = ""
    package: str = ""  # its name in `data.sources.PACKAGES`, where a package brings it
    revision: str = ""  # on the hub; "" = the main one
    bounds: tuple[float, float] | None = None  # lowest and highest score
    cuts: tuple[float, ...] = ()  # a score below the first is the first label word, and so on
    as_bytes: bool = False  # its strings are written as b'…\n'


SENTENCE_PAIR = {"first": "sentence1", "second": "sentence2", "label": "label"}
TRAIN_AND_VALIDATION = ("train", "validation")
UNLABELLED = "the hub's test split has no labels (-1)"
ALPACA = ("Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
          "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:")


def glue(name: str, kind: str, columns: dict, prompt: str, labels: tuple[str, ...] = (), note: str = UNLABELLED, **more) -> Entry:
    "One of the nine tasks of GLUE (Wang et al. 2019, Table 1)."
    return Entry(name, "nyu-mll/glue", kind, columns, prompt, labels, configs=(name,), note=note,
                 licence="other: each task has its own source's terms", **({"splits": TRAIN_AND_VALIDATION} | more))


MMLU_SUBJECTS = """abstract_algebra anatomy astronomy business_ethics clinical_knowledge college_biology college_chemistry college_computer_science
college_mathematics college_medicine college_physics computer_security conceptual_physics econometrics electrical_engineering elementary_mathematics
formal_logic global_facts high_school_biology high_school_chemistry high_school_computer_science high_school_european_history high_school_geography
high_school_government_and_politics high_school_macroeconomics high_school_mathematics high_school_microeconomics high_school_physics
high_school_psychology high_school_statistics high_school_us_history high_school_world_history human_aging human_sexuality international_law
jurisprudence logical_fallacies machine_learning management marketing medical_genetics miscellaneous moral_disputes moral_scenarios nutrition
philosophy prehistory professional_accounting professional_law professional_medicine professional_psychology public_relations security_studies
sociology us_foreign_policy virology world_religions""".split()

MATH_MODULES = """algebra__linear_1d algebra__linear_1d_composed algebra__linear_2d algebra__linear_2d_composed algebra__polynomial_roots
algebra__polynomial_roots_composed algebra__sequence_next_term algebra__sequence_nth_term arithmetic__add_or_sub arithmetic__add_or_sub_in_base
arithmetic__add_sub_multiple arithmetic__div arithmetic__mixed arithmetic__mul arithmetic__mul_div_multiple arithmetic__nearest_integer_root
arithmetic__simplify_surd calculus__differentiate calculus__differentiate_composed comparison__closest comparison__closest_composed
comparison__kth_biggest comparison__kth_biggest_composed comparison__pair comparison__pair_composed comparison__sort comparison__sort_composed
measurement__conversion measurement__time numbers__base_conversion numbers__div_remainder numbers__div_remainder_composed numbers__gcd
numbers__gcd_composed numbers__is_factor numbers__is_factor_composed numbers__is_prime numbers__is_prime_composed numbers__lcm numbers__lcm_composed
numbers__list_prime_factors numbers__list_prime_factors_composed numbers__place_value numbers__place_value_composed numbers__round_number
numbers__round_number_composed polynomials__add polynomials__coefficient_named polynomials__collect polynomials__compose polynomials__evaluate
polynomials__evaluate_composed polynomials__expand polynomials__simplify_power probability__swr_p_level_set probability__swr_p_sequence""".split()

ENTRIES = (
    # --- one text, one label
    Entry("imdb", "stanfordnlp/imdb", "classification", {"text": "text", "label": "label"},
          "Is this movie review {labels}?\n\nReview: {text}\n\nSentiment:", ("negative", "positive"),
          configs=("plain_text",), splits=("train", "validation", "test"), licence="other: published for research (Maas et al. 2011)", package="imdb",
          note="validation is cut from train, 2,500 of 25,000; the hub's split unsupervised has no labels"),
    glue("cola", "classification", {"text": "sentence", "label": "label"},
         "Is this sentence {labels} English?\n\nSentence: {text}\n\nGrammar:", ("unacceptable", "acceptable")),
    glue("sst2", "classification", {"text": "sentence", "label": "label"},
         "Is this sentence from a movie review {labels}?\n\nSentence: {text}\n\nSentiment:", ("negative", "positive"),
         note=UNLABELLED + "; many of its sentences are also in rotten_tomatoes"),
    glue("mrpc", "pairs", SENTENCE_PAIR,
         "Are these two sentences {labels} in meaning?\n\nSentence 1: {first}\n\nSentence 2: {second}\n\nRelation:", ("not_equivalent", "equivalent"),
         splits=("train", "validation", "test"), note="its test split has labels"),
    glue("qqp", "pairs", {"first": "question1", "second": "question2", "label": "label"},
         "Do these two questions ask the same ({labels})?\n\nQuestion 1: {first}\n\nQuestion 2: {second}\n\nRelation:", ("not_duplicate", "duplicate")),
    glue("mnli", "pairs", {"first": "premise", "second": "hypothesis", "label": "label"},
         "What does the premise say about the hypothesis: {labels}?\n\nPremise: {first}\n\nHypothesis: {second}\n\nRelation:",
         ("entailment", "neutral", "contradiction"), splits=("train", "validation_matched", "validation_mismatched"),
         note="the hub's splits test_matched and test_mismatched have no labels (-1)"),
    glue("qnli", "pairs", {"first": "question", "second": "sentence", "label": "label"},
         "Does the sentence answer the question ({labels})?\n\nQuestion: {first}\n\nSentence: {second}\n\nRelation:", ("entailment", "not_entailment")),
    glue("rte", "pairs", SENTENCE_PAIR,
         "Does the second sentence follow from the first ({labels})?\n\nSentence 1: {first}\n\nSentence 2: {second}\n\nRelation:",
         ("entailment", "not_entailment")),
    glue("wnli", "pairs", SENTENCE_PAIR,
         "Does the second sentence follow from the first ({labels})?\n\nSentence 1: {first}\n\nSentence 2: {second}\n\nRelation:",
         ("not_entailment", "entailment"), note=UNLABELLED + "; the order of the labels is not that of rte"),
    glue("stsb", "regression", {"first": "sentence1", "second": "sentence2", "score": ("label", "score")},
         "How similar are these two sentences, from 0.0 to 5.0?\n\nSentence 1: {first}\n\nSentence 2: {second}\n\nSimilarity:",
         note="scores are written with one decimal; " + UNLABELLED, bounds=(0.0, 5.0)),
    Entry("phrasebank", "takala/financial_phrasebank", "classification", {"text": "sentence", "label": "label"},
          "Is this sentence of financial news {labels} for an investor?\n\nSentence: {text}\n\nSentiment:", ("negative", "neutral", "positive"),
          configs=("sentences_allagree", "sentences_75agree", "sentences_66agree", "sentences_50agree"), licence="CC BY-NC-SA 3.0", revision=AS_PARQUET,
          note="Malo et al. 2014; a config holds the sentences on which at least so many annotators agree"),
    Entry("twitter_financial_news", "zeroshot/twitter-financial-news-sentiment", "classification", {"text": "text", "label": "label"},
          "Is this tweet about the markets {labels}?\n\nTweet: {text}\n\nSentiment:", ("bearish", "bullish", "neutral"),
          splits=TRAIN_AND_VALIDATION, licence="MIT"),
    Entry("fiqa_sentiment", "TheFinAI/fiqa-sentiment-classification", "regression", {"text": "sentence", "score": "score", "target": "target"},
          "Is this {labels} for {target}?\n\nText: {text}\n\nSentiment:", ("negative", "neutral", "positive"),
          splits=("train", "valid", "test"), licence="MIT", bounds=(-1.0, 1.0), cuts=(-0.1, 0.1),
          note="the hub has scores; words for them by cuts of the course's own"),
    # --- choices
    Entry("mmlu", "cais/mmlu", "multiple choice", {"question": "question", "choices": "choices", "answer": "answer", "subject": "subject"},
          "The following is a multiple choice question about {subject}.\n\n{question}\n\n{choices}\n\nAnswer:",
          configs=("all", *MMLU_SUBJECTS), splits=("test", "validation", "dev", "auxiliary_train"), licence="MIT",
          note="Hendrycks et al. 2021; auxiliary_train has no subjects, and only config all has it for certain (others not verified)"),
    Entry("mmlu_pro", "TIGER-Lab/MMLU-Pro", "multiple choice",
          {"question": "question", "choices": "options", "answer": ("answer", "answer_index"), "subject": "category"},
          "The following is a multiple choice question about {subject}.\n\n{question}\n\n{choices}\n\nAnswer:",
          splits=("test", "validation"), licence="MIT", note="Wang et al. 2024; up to ten choices, A to J"),
    Entry("finance_tasks", "AdaptLLM/finance-tasks", "multiple choice", {"question": "input", "choices": "options", "answer": "gold_index"},
          "{question}\n\n{choices}\n\nAnswer:", configs=("FPB", "FiQA_SA", "Headline"), splits=("test",),
          note="Cheng et al. 2024; the inputs hold solved examples already"),
    Entry("finance_tasks_answers", "AdaptLLM/finance-tasks", "question answering", {"question": "input", "answer": "label"},
          "{question}", configs=("ConvFinQA", "NER"), splits=("test",),
          note="Cheng et al. 2024; the inputs end where the answer begins; columns of NER not verified"),
    # --- questions and instructions
    Entry("fiqa_qa", "LLukas22/fiqa", "question answering", {"question": "question", "answer": "answer"},
          "Question: {question}\n\nAnswer:", splits=("train", "test"), licence="CC BY 3.0"),
    Entry("sujet_finance_qa", "sujet-ai/Sujet-Finance-QA-Vision-100k", "question answering",
          {"pairs": "qa_pairs", "question": "question", "answer": "answer"}, "Question: {question}\n\nAnswer:",
          splits=("train", "test"), licence="Apache-2.0",
          note="the text part: a row is a page with several questions, each an example here; they ask about a picture that is left out; column doc_id not verified"),
    Entry("finance_alpaca", "gbharti/finance-alpaca", "instruction", {"instruction": "instruction", "input": "input", "answer": "output"},
          ALPACA, licence="MIT (not verified)", note="holds Stanford's Alpaca (CC BY-NC 4.0), FiQA and other pairs; also has an empty column text"),
    # --- answers that can be checked
    Entry("gsm8k", "openai/gsm8k", "math", {"question": "question", "answer": "answer"}, "Question: {question}\n\nAnswer:",
          configs=("main", "socratic"), splits=("train", "test"), licence="MIT", note="Cobbe et al. 2021; the final number stands after ####"),
    Entry("finance_math", "yale-nlp/FinanceMath", "math", {"question": "question", "answer": "ground_truth", "tables": "tables"},
          "{tables}\n\nQuestion: {question}\n\nAnswer:", splits=("validation",), licence="MIT (not verified)",
          note="Zhao et al. 2024; its terms must be accepted on the hub first; the answers of its test split are not published"),
    Entry("deepmind_math", "deepmind/math_dataset", "math", {"question": "question", "answer": "answer"}, "Question: {question}\n\nAnswer:",
          configs=tuple(MATH_MODULES), splits=("train", "test"), licence="none stated (its generator: Apache-2.0)", revision=AS_PARQUET, as_bytes=True,
          note="Saxton et al. 2019; 2 million generated rows a config; the copy as parquet not verified"),
    Entry("bigcodebench", "bigcode/bigcodebench", "code",
          {"instruction": "instruct_prompt", "start": "code_prompt", "answer": "canonical_solution", "tests": "test"}, "{instruction}",
          splits=("v0.1.4", "v0.1.3", "v0.1.2", "v0.1.1", "v0.1.0_hf"), licence="Apache-2.0",
          note="Zhuo et al. 2024; 1,140 tasks, the same in every version; v0.1.3 and v0.1.4 not verified"),
    # --- text to pretrain on
    Entry("sec_reports", "JanosAudran/financial-reports-sec", "text", {"text": "sentence"},
          configs=("small_lite", "small_full", "large_lite", "large_full"), splits=("train", "validation", "test"), licence="Apache-2.0", revision=AS_PARQUET,
          note="10-K reports, a sentence a row; its labels tell how the share price moved, not what the sentence says"),
    Entry("financial_news", "ashraq/financial-news-articles", "text", {"text": "text"}, note="has columns title and url as well (not verified)"),
    Entry("common_corpus", "PleIAs/common_corpus", "text", {"text": "text"}, licence="each row names its own, all of them open",
          note="about 2 trillion tokens, terabytes; columns other than text not verified"),
    Entry("bookcorpus", "bookcorpus/bookcorpus", "text", {"text": "text"}, configs=("plain_text",), licence="unknown, says the hub", revision=AS_PARQUET,
          note="Zhu et al. 2015; a sentence a row; the copy as parquet not verified"),
    Entry("open_web_math", "open-web-math/open-web-math", "text", {"text": "text"}, licence="ODC-By 1.0", note="Paster et al. 2024; 16 GB"),
    Entry("wikitext", "Salesforce/wikitext", "text", {"text": "text"}, licence="CC BY-SA 3.0 and GFDL",
          configs=("wikitext-2-raw-v1", "wikitext-103-raw-v1", "wikitext-2-v1", "wikitext-103-v1"), splits=("train", "validation", "test"),
          note="Merity et al. 2017; a paragraph a row, and every other row is empty: those are passed over"),
    Entry("wikipedia", "wikimedia/wikipedia", "text", {"text": "text"}, configs=("20231101.en", "20231101.*"), licence="CC BY-SA 3.0 and GFDL",
          note="a config is a date and a language, as in 20231101.simple"),
    Entry("openwebtext", "Skylion007/openwebtext", "text", {"text": "text"}, licence="CC0 1.0", note="Gokaslan and Cohen 2019; about 25 GB; the pages are their authors'"),
    Entry("c4", "allenai/c4", "text", {"text": "text"}, configs=("en", "realnewslike", "en.noblocklist", "en.noclean"), splits=TRAIN_AND_VALIDATION,
          licence="ODC-By 1.0", note="Raffel et al. 2020; config en is about 300 GB"),
    Entry("pile_cc", "timaeus/pile-pile-cc", "text", {"text": "text"},
          note="the Common Crawl part of the Pile (Gao et al. 2020), 100,000 of its pages; columns other than text not verified"),
)
