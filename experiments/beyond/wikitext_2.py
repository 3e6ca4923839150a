"""WikiText-2 in place of One Billion Word: the network of Figure 4 at its full size."""

from __future__ import annotations

from experiments.artifact import Artifact, Deviation
from experiments.paper import fig4
from experiments.paper._language import PAPER, lags, leads, yours
from experiments.spec import varied
from experiments.verdict import Claim

WHOLE = varied(PAPER, corpus="wikitext-2", cutoffs=(4_000, 12_000), dropout=0.65)

CLAIMS = (
    Claim(
        "wikitext-2.ends-lower",
        "On WikiText-2, in place of One Billion Word, an LSTM of the paper's size ends at a "
        "lower test perplexity with RAdam than with Adam",
        "on One Billion Word 35.70 against 36.92",
        leads("radam", "adam"),
    ),
    Claim(
        "wikitext-2.starts-slower",
        "On WikiText-2, such an LSTM is slower at first with RAdam: after one epoch its test "
        "perplexity is above that with Adam",
        "on One Billion Word, by eye",
        lags("radam", "adam"),
    ),
)


ARTIFACT = Artifact(
    id="wikitext-2",
    title="Language modelling, WikiText-2 in place of One Billion Word",
    order=41,
    runs={"smoke": fig4.ARTIFACT.at("smoke"), "paper": fig4.arms(WHOLE, "paper")},
    claims=CLAIMS,
    yours=yours("wikitext-2", " on WikiText-2"),
    draw=fig4.draw,
    tabulate=fig4.tabulate,
    deviations={
        "smoke": fig4.ARTIFACT.deviations["smoke"],
        "paper": (
            *(one for one in fig4.ARTIFACT.deviations["paper"] if one.axis != "corpus"),
            Deviation(
                "dropout",
                "0.1",
                "a network of this size learns so small a text by heart: "
                "that of the large LSTM of Zaremba et al. (2014) on a smaller one",
            ),
            Deviation("corpus", "lm1b", "a text that can be had where One Billion Word cannot"),
            Deviation("cutoffs", "4,000, 40,000, 200,000", fig4.RANKS),
        ),
    },
)
