"""Under which terms the texts of a data set may be used, as a run writes it beside what it learned from them."""

LICENCES = {
    "imdb": "text of Large Movie Review Dataset (Maas et al. 2011): published for research; the reviews belong to their authors",
    "rotten_tomatoes": "text of the sentence polarity set (Pang and Lee 2005): published for research; the reviews belong to their authors",
    "sotu": "public domain: speeches of the presidents of the United States",
}


def licence_of(data: str) -> str:  # data: a name or path that `data.sources.load` takes
    "The terms of a data set of this course; for anything else, that they are not known here."
    return LICENCES.get(data, "not known to the course: look where the texts come from")
