"""The examples of the chapter "Use it in your training", as it gives them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.view import or_sentence

CHAPTER = (Path(__file__).parent.parent / "book" / "use_it.md").read_text(encoding="utf-8")
CELL = re.compile(
    r"^```\{code-cell\} ipython3\n:tags: \[(?P<tag>[\w-]+)\]\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


def example(name: str) -> dict[str, Any]:
    """Run the cells of an example, and give the names that they bind."""
    code = "\n".join(cell["code"] for cell in CELL.finditer(CHAPTER) if cell["tag"] == name)
    assert code, f"the chapter has no cell with the tag {name}"
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, name, "exec"), names)
    return names


def test_plain_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = example("example-torch")
    loss, resumed, scaled = capsys.readouterr().out.splitlines()
    assert float(loss.rpartition(" ")[2]) < 0.6  # from 2.3 of guessing
    assert resumed == "bit-equal"
    assert scaled.endswith("after 20 updates")
    _, optimizer, scheduler = names["parts"]
    assert optimizer.rectification_state()[0].t == names["UPDATES"]
    assert scheduler.get_last_lr() == pytest.approx([0, 0])
    rates = names["rates"](names["chained"])
    torch.testing.assert_close(rates, names["rates"](names["of_one_piece"]), rtol=1e-10, atol=1e-28)
    assert rates[:4].max() < 1e-28 < rates[4] < rates[100]


@pytest.mark.filterwarnings("default")  # those of other projects are not ours to mend
def test_hugging_face_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    for library in ("transformers", "datasets", "accelerate"):
        pytest.importorskip(library)
    names = example("example-transformers")
    for state in names["optimizer"].rectification_state():
        assert state.t == names["result"].global_step == 128
        assert state.rectified
    assert names["scheduler"].t == 129
    assert names["optimizer"].param_groups[0]["lr"] < 1e-28
    model = names["model"].eval()
    with torch.no_grad():
        guessed = model(names["words"]).logits.argmax(dim=1)
    assert (guessed == names["kinds"]).float().mean() > 0.8
    assert "128 updates, mean loss 0." in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_lightning(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    names = example("example-lightning")
    updates = 8 * -(-1797 // 64)
    optimizer = names["trainer"].optimizers[0]
    assert optimizer.rectification_state()[0].t == updates == len(names["model"].losses)
    assert optimizer.param_groups[0]["lr"] < 1e-28
    assert names["model"].losses[-1] < 0.6 < names["model"].losses[0]
    assert "loss at first 2." in capsys.readouterr().out


def test_a_cell_that_needs_what_is_not_installed_says_so() -> None:
    cell = ["import nowhere.at_all\n", "from torch import nn\n", "from elsewhere import x\n"]
    (line,) = or_sentence(cell)
    assert line == "print('Not run here: this example needs nowhere, elsewhere.')\n"
    assert or_sentence(cell[1:2]) == cell[1:2]
    assert or_sentence(["    import nowhere\n", "x = 'import nowhere'\n"])[0].startswith(" ")
