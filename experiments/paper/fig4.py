"""Figure 4: perplexity of Adam and RAdam on One Billion Word."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="fig4",
    title="Language modelling, One Billion Word",
    order=40,
    claims=(
        Claim(
            "fig4.ends-lower",
            "RAdam ends at a lower test perplexity than Adam",
            "35.70 against 36.92",
        ),
        Claim(
            "fig4.starts-slower",
            "RAdam is slower in the first epochs",
            "by eye",
        ),
    ),
)
