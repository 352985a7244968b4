import gzip
import signal
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.cli.main import main
from dssl_sklearn.cli.tables import typed
from dssl_sklearn.training.nets import PretextNet, PropertyNet


@pytest.fixture(scope="module")
def folder(tmp_path_factory, elastic):
    """Twelve CIF files, and a table of their targets."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cifs").mkdir()
    for k, structure in enumerate(elastic[0][:12]):
        structure.to(filename=str(folder / "cifs" / f"s{k}.cif"))
    table = pd.DataFrame({"id": [f"s{k}" for k in range(12)], "K": elastic[1][:12]})
    table["kind"] = np.where(table["K"] > table["K"].median(), "stiff", "soft")
    table.to_csv(folder / "by_id.csv", index=False)
    table["path"] = "cifs/" + table["id"] + ".cif"
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture
def with_bad(folder, tmp_path):
    """The folder with a broken file that comes first."""
    for path in (folder / "cifs").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.cif").write_text("nonsense")
    return tmp_path


@pytest.fixture(scope="module")
def model(folder):
    out = folder / "model.safetensors"
    args = ["--target", "K", "--pretrained", "none", "--epochs", "1", "--quiet"]
    assert main(["fit", str(folder / "labels.csv"), *args, "--out", str(out)]) == 0
    return out


def run(*args):
    return main([str(arg) for arg in args])


class TestFitAndPredict:
    def test_predictions_are_those_of_python(self, folder, model, tmp_path):
        out = tmp_path / "p.csv"
        assert run("predict", model, folder / "labels.csv", "--out", out) == 0
        found = pd.read_csv(out)
        assert list(found.columns) == ["id", "K"]
        assert found["id"].tolist() == [f"s{k}" for k in range(12)]
        paths = [folder / "cifs" / f"s{k}.cif" for k in range(12)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pymatgen, about rounded coordinates
            expected = DSSLRegressor.load(model).predict(paths)
        np.testing.assert_allclose(found["K"], expected, rtol=1e-5)
        assert model.with_suffix(".json").is_file()

    def test_files_by_id(self, folder, model, tmp_path):
        args = ["--folder", folder / "cifs", "--id-column", "id", "--quiet"]
        assert run("predict", model, folder / "by_id.csv", *args, "--out", tmp_path / "p.csv") == 0
        assert run("predict", model, folder / "labels.csv", "--out", tmp_path / "q.csv") == 0
        assert (tmp_path / "p.csv").read_text() == (tmp_path / "q.csv").read_text()

    def test_several_files(self, folder, model, tmp_path):
        paths = [folder / "cifs" / f"s{k}.cif" for k in (3, 1)]
        assert run("predict", model, *paths, "--out", tmp_path / "p.csv") == 0
        assert run("predict", model, folder / "labels.csv", "--out", tmp_path / "q.csv") == 0
        found, every = pd.read_csv(tmp_path / "p.csv"), pd.read_csv(tmp_path / "q.csv")
        assert found["id"].tolist() == ["s3.cif", "s1.cif"]
        np.testing.assert_allclose(found["K"], every["K"][[3, 1]], rtol=1e-5)

    def test_bad_files_keep_their_rows(self, with_bad, model, tmp_path, capsys, monkeypatch):
        # The first piece holds nothing but the broken file.
        monkeypatch.setattr("dssl_sklearn.cli.structures.CHUNK", 1)
        for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
            out = tmp_path / f"p{suffix}"
            assert run("predict", model, with_bad, "--out", out) == 1
            assert not out.exists()
            assert "broken.cif: cannot read" in capsys.readouterr().err
            assert run("predict", model, with_bad, "--on-error", "skip", "--out", out) == 0
            found = read(out)
            assert list(found.columns) == ["id", "K", "error"]
            assert found["id"][0] == "broken.cif"
            assert found["K"].isna().tolist() == [True] + [False] * 12
            assert "cannot read" in found["error"][0]

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_pieces_without_a_result_have_the_columns_of_others(
        self, folder, tmp_path, monkeypatch, suffix
    ):
        monkeypatch.setattr("dssl_sklearn.cli.structures.CHUNK", 2)
        model, out = tmp_path / "c.safetensors", tmp_path / f"p{suffix}"
        args = ["--target", "kind", "--pretrained", "none", "--epochs", "1", "--quiet"]
        assert run("fit", folder / "labels.csv", *args, "--out", model) == 0
        table = pd.read_csv(folder / "labels.csv")
        wrong = [0, 1, 4, 5]
        table.loc[wrong, "path"] = "none.cif"
        table.to_csv(folder / "some.csv", index=False)
        args = ["--on-error", "skip", "--quiet"]
        assert run("predict", model, folder / "some.csv", *args, "--out", out) == 0
        found = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
        assert list(found.columns) == [
            "id",
            "kind",
            "probability_soft",
            "probability_stiff",
            "error",
        ]
        assert np.flatnonzero(found["kind"].isna()).tolist() == wrong

    def test_numbers_with_a_unit_are_no_classes(self, folder, tmp_path, capsys):
        table = pd.read_csv(folder / "labels.csv")
        table["K"] = table["K"].map("{:.3f} GPa".format)
        table.to_csv(folder / "unit.csv", index=False)
        args = ["--target", "K", "--epochs", "1", "--quiet", "--out", tmp_path / "m.safetensors"]
        assert run("fit", folder / "unit.csv", *args) == 2
        assert "numbers must stand without a unit" in capsys.readouterr().err

    def test_the_paper_begins_from_scratch(self, folder, tmp_path):
        out = tmp_path / "p.safetensors"
        args = ["--target", "K", "--recipe", "paper", "--epochs", "1", "--quiet"]
        assert run("fit", folder / "labels.csv", *args, "--out", out) == 0
        assert DSSLRegressor.load(out).architecture_.backbone == "deeper_gatgnn"

    def test_classes(self, folder, tmp_path):
        out = tmp_path / "c.safetensors"
        args = ["--target", "kind", "--pretrained", "none", "--epochs", "1", "--quiet"]
        assert run("fit", folder / "labels.csv", *args, "--out", out) == 0
        assert run("predict", out, folder / "cifs", "--quiet", "--out", tmp_path / "p.csv") == 0
        found = pd.read_csv(tmp_path / "p.csv")
        assert list(found.columns) == ["id", "kind", "probability_soft", "probability_stiff"]
        assert set(found["kind"]) <= {"soft", "stiff"}

    def test_nothing_usable(self, tmp_path, model, capsys):
        (tmp_path / "broken.cif").write_text("nonsense")
        out = tmp_path / "p.csv"
        assert run("predict", model, tmp_path, "--on-error", "skip", "--out", out) == 1
        assert "none of the structures can be used" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["broken.cif"]


def test_pretrain_and_embed(with_bad, tmp_path):
    weights, out = tmp_path / "w.safetensors", tmp_path / "e.csv"
    args = ["--epochs", "1", "--quiet", "--on-error", "skip"]
    assert run("pretrain", with_bad, *args, "--out", weights) == 0
    assert run("embed", weights, with_bad, *args[2:], "--out", out) == 0
    found = pd.read_csv(out)
    assert found.shape == (13, DSSLPretrainer.load(weights).n_features_out_ + 2)
    assert found.drop(columns="error").notna().all(axis=1).tolist() == [False] + [True] * 12


class TestDoctor:
    def test_sound_data(self, folder, tmp_path, capsys):
        out = tmp_path / "report.csv"
        assert run("doctor", folder / "labels.csv", "--target", "K", "--out", out) == 0
        assert "WARNING: few labels" in capsys.readouterr().out
        assert pd.read_csv(out)["check"].tolist() == ["few_labels", *["none"] * 12]

    def test_bad_data(self, with_bad, capsys):
        assert run("doctor", with_bad) == 1
        assert "structure 0 (broken.cif): cannot read" in capsys.readouterr().out


class TestWrongCalls:
    @pytest.mark.parametrize(
        "args, message",
        [
            (["frobnicate"], "invalid choice"),
            (["fitt"], "did you mean 'fit'?"),
            (["doctor", "cifs/s0.cif", "cifs"], "'cifs' is a folder; give one folder alone"),
            (["doctor", "cifs/s0.cif", "labels.csv"], "'labels.csv' is a table; give it alone"),
            (["doctor", "cifs/s0.cif", "cifs/lost.cif"], "lost.cif' is neither a folder nor"),
            (["fit", "labels.csv", "--out", "m.safetensors"], "--target"),
            (["doctor", "nowhere"], "neither a folder nor a file"),
            (["doctor", "labels.csv", "--target", "kinds"], "did you mean 'kind'"),
            (["doctor", "by_id.csv"], "--path-column"),
            (["doctor", "cifs", "--target", "K"], "needs a table"),
            (["doctor", "labels.csv", "--cutoff", "-1"], "no positive number"),
            (["pretrain", "cifs", "--out", "m.safetensors", "--epochs", "0"], "below 1"),
            (["pretrain", "cifs", "--out", "nowhere/m.safetensors"], "existing folder"),
            (["pretrain", "cifs", "--out", "m.pkl"], "must end in .safetensors"),
            (["predict", "nowhere.safetensors", "cifs", "--out", "p.csv"], "there is no model"),
            (["embed", "mp", "cifs", "--out", "labels.csv"], "--force"),
        ],
        ids=" ".join,
    )
    def test_are_explained(self, folder, monkeypatch, capsys, args, message):
        monkeypatch.chdir(folder)
        before = sorted(folder.iterdir())
        assert run(*args) == 2
        assert message in capsys.readouterr().err
        assert sorted(folder.iterdir()) == before

    def test_unknown_weights_are_a_problem_of_the_data(self, folder, tmp_path, capsys):
        assert run("embed", "pm", folder / "cifs", "--out", tmp_path / "e.csv") == 1
        assert "'pm' is neither the name of shipped weights" in capsys.readouterr().err

    def test_a_damaged_table(self, tmp_path, capsys):
        (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
        assert run("doctor", tmp_path / "t.csv") == 1
        assert "cannot be read" in capsys.readouterr().err


def test_force_replaces(folder, model, tmp_path):
    out = tmp_path / "p.csv"
    out.write_text("old")
    assert run("predict", model, folder / "cifs", "--quiet", "--out", out) == 2
    assert out.read_text() == "old"
    assert run("predict", model, folder / "cifs", "--quiet", "--force", "--out", out) == 0
    assert out.read_text().startswith("id,K\n")


@pytest.fixture
def interrupted(monkeypatch):
    """Press Ctrl-C in the first step, also where this process was started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    for net in (PropertyNet, PretextNet):
        monkeypatch.setattr(net, "train_step", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("command", ["fit", "pretrain"])
def test_interrupted_training_writes_nothing(folder, tmp_path, capsys, command):
    target = ["--target", "K", "--pretrained", "none"] if command == "fit" else []
    args = [folder / "labels.csv", *target, "--out", tmp_path / "w.safetensors", "--quiet"]
    assert run(command, *args) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_as_a_program(folder):
    def program(*args):
        command = [sys.executable, "-m", "dssl_sklearn", *args]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)  # noqa: S603

    shown = program("--version")
    assert (shown.returncode, shown.stdout.split()[0]) == (0, "dssl_sklearn")
    assert program().returncode == 2


class TestTables:
    """What stands in a CSV file is read as it was meant."""

    @pytest.fixture
    def written(self, folder, tmp_path):
        """Write a table of the crystals in a folder of their own, named 000, 001, and so on."""
        (tmp_path / "cifs").mkdir()
        paths = sorted((folder / "cifs").iterdir())
        for k, path in enumerate(paths):
            (tmp_path / "cifs" / f"{k:03}.cif").write_bytes(path.read_bytes())

        def write(**columns):
            table = pd.DataFrame({"id": [f"{k:03}" for k in range(len(paths))], **columns})
            table.to_csv(tmp_path / "t.csv", index=False)
            return tmp_path / "t.csv", "--folder", tmp_path / "cifs", "--id-column", "id"

        return write

    def fitted(self, written, tmp_path, *options, **columns):
        table = written(**columns)
        target = next(iter(columns))
        out = tmp_path / "w.safetensors"
        args = ["--target", target, *options, "--pretrained", "none", "--epochs", "1", "--quiet"]
        assert run("fit", *table, *args, "--out", out) == 0
        found = tmp_path / "p.csv"
        assert run("predict", out, *table, "--quiet", "--on-error", "skip", "--out", found) == 0
        return pd.read_csv(found, dtype=str, keep_default_na=False)

    def test_ids_keep_their_zeros(self, written, tmp_path):
        found = self.fitted(written, tmp_path, K=np.arange(12.0))
        assert list(found["id"]) == [f"{k:03}" for k in range(12)]
        assert list(found.columns) == ["id", "K", "error"]

    def test_none_is_a_class(self, written, tmp_path):
        found = self.fitted(written, tmp_path, order=["None", "FM", ""] * 4)
        assert list(found.columns) == ["id", "order", "probability_FM", "probability_None", "error"]

    @pytest.mark.parametrize("labels", [["0", "1", "1"], ["0", "1", ""]])
    def test_whole_numbers_stay_whole(self, written, tmp_path, labels):
        found = self.fitted(written, tmp_path, "--task", "classification", metal=labels * 4)
        assert list(found.columns)[2:4] == ["probability_0", "probability_1"]
        assert set(found["metal"]) <= {"0", "1"}

    @pytest.mark.parametrize("unknown", ["NA", "null", "None", "#N/A", "<NA>", "-nan", ""])
    def test_what_is_unknown_among_numbers_and_truth_values(self, unknown):
        assert typed(pd.Series(["1.5", unknown, "2"])).isna().tolist() == [False, True, False]
        assert typed(pd.Series(["True", unknown, "false"])).tolist()[::2] == [True, False]
        assert typed(pd.Series(["True", unknown, "false"])).isna()[1]
        text = typed(pd.Series(["FM", unknown, "AFM"]))
        assert text.isna()[1] == (unknown != "None")

    def test_columns_of_a_parquet_table(self):
        assert typed(pd.Series(["true", "false", None])).tolist()[:2] == [True, False]
        numbers = pd.Series([1.5, np.nan])
        assert typed(numbers) is numbers

    @pytest.mark.parametrize("name", ["error", "id"])
    def test_targets_named_as_a_column_of_the_results(self, written, tmp_path, name):
        if name == "id":
            columns = {"K": np.arange(12.0)}
            table = written(**columns)[0]
            table.write_text(table.read_text().replace("id,K", "name,id"))
            out = tmp_path / "w.safetensors"
            args = ["--folder", tmp_path / "cifs", "--id-column", "name", "--quiet"]
            options = ["--target", "id", "--pretrained", "none", "--epochs", "1"]
            assert run("fit", table, *args, *options, "--out", out) == 0
            assert run("predict", out, table, *args, "--out", tmp_path / "p.csv") == 0
            found = pd.read_csv(tmp_path / "p.csv")
            assert list(found.columns) == ["id", "predicted_id"]
        else:
            found = self.fitted(written, tmp_path, error=np.arange(12.0))
            assert list(found.columns) == ["id", "predicted_error", "error"]

    @pytest.mark.parametrize("command", ["fit", "doctor"])
    def test_a_comma_in_numbers(self, written, tmp_path, capsys, command):
        table = written(K=["1,5", "2,25", "1,000.5", ""] * 3)
        options = ["--out", tmp_path / "w.safetensors"] if command == "fit" else []
        assert run(command, *table, "--target", "K", *options) == 2
        assert "'K' holds numbers with a comma, such as '1,5'" in capsys.readouterr().err


def test_compressed_files_by_id_and_paths_that_are_missing(folder, model, tmp_path, capsys):
    text = (folder / "cifs" / "s0.cif").read_bytes()
    (tmp_path / "007.cif.gz").write_bytes(gzip.compress(text))
    (tmp_path / "ids.csv").write_text("id\n007\n")
    args = ["--folder", tmp_path, "--quiet", "--out", tmp_path / "p.csv"]
    assert run("predict", model, tmp_path / "ids.csv", *args) == 0
    assert pd.read_csv(tmp_path / "p.csv", dtype=str)["id"].tolist() == ["007"]
    (tmp_path / "paths.csv").write_text("id,path\na,007.cif.gz\nb,\n")
    args = ["--quiet", "--out", tmp_path / "q.csv"]
    assert run("predict", model, tmp_path / "paths.csv", *args) == 1
    assert "b: no such file" in capsys.readouterr().err


def test_names_in_capitals_and_files_left_alone(folder, model, tmp_path, capsys):
    text = (folder / "cifs" / "s0.cif").read_bytes()
    (tmp_path / "A.CIF").write_bytes(text)
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress(text))
    (tmp_path / "notes.txt").write_text("not a crystal")
    assert run("predict", model, tmp_path, "--out", tmp_path / "p.csv") == 0
    assert list(pd.read_csv(tmp_path / "p.csv")["id"]) == ["A.CIF", "b.cif.gz"]
    assert "1 of 3 files" in capsys.readouterr().err


def test_wrong_values_of_options(folder, tmp_path, capsys):
    out = ["--target", "K", "--out", tmp_path / "m.safetensors", "--quiet"]
    assert run("fit", folder / "labels.csv", *out, "--seed", 2**32) == 2
    assert "is not below 4294967296" in capsys.readouterr().err
    assert run("fit", folder / "labels.csv", *out, "--pretrained", "") == 1
    assert "''" in capsys.readouterr().err
    (folder / "labels.tsv").write_text("id\tK\n")
    assert run("fit", folder / "labels.tsv", *out) == 2
    assert "separated by tabs" in capsys.readouterr().err
