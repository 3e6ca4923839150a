"""Does what Table 3 finds of the first updates hang on the order of the data?

As in `experiments.beyond.data_order`: the weights of a seed meet the batches of the next.
"""

from __future__ import annotations

from experiments.artifact import Artifact
from experiments.beyond.data_order import NEXT
from experiments.paper import table3
from experiments.spec import with_other_batches

ARTIFACT = Artifact(
    id="data-order-table3",
    title="The first updates with the batches of other seeds, CIFAR-10",
    order=96,
    runs={
        scale: tuple(with_other_batches(run) for run in runs)
        for scale, runs in table3.ARTIFACT.runs.items()
    },
    claims=table3.claims("data-order-table3", ", also with the batches of other seeds"),
    tabulate=table3.tabulate,
    deviations={scale: (*known, NEXT) for scale, known in table3.ARTIFACT.deviations.items()},
)
