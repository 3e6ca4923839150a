"""Table 2: BLEU of RAdam and of Adam with warmup."""

from experiments.artifact import Artifact
from experiments.verdict import Claim

ARTIFACT = Artifact(
    id="table2",
    title="Translation quality",
    order=75,
    claims=(
        Claim(
            "table2.similar",
            "RAdam's BLEU is similar to that of Adam with warmup",
            "IWSLT'14 De-En 34.76 against 34.66, En-De 28.48 against 28.56, WMT'16 En-De "
            "27.27 against 27.03",
        ),
    ),
)
