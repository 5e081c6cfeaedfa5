"""Raw folders as they come, and the patients of their cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decathlon import decathlon_head

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.raw import list_raw


def test_listing_tells_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list_raw(tmp_path / "nowhere")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))
    with pytest.raises(UserError, match="neither nnU-Net's"):
        list_raw(tmp_path)


NNUNET = {"labels": {"background": 0, "a": 1}, "channel_names": {"0": "x"}, "file_ending": ".nii.gz"}
DECATHLON = {
    "labels": {"0": "background", "1": "a"}, "modality": {"0": "x"}, "training": [{"image": "i.nii", "label": "l.nii"}],
}  # fmt: skip
LISTED = NNUNET | {"dataset": {"case": {"images": ["i.nii.gz"], "label": "l.nii.gz"}}}
REGIONS = NNUNET | {"labels": {"background": 0, "a": [1, 2], "b": 2}, "regions_class_order": [1, 2]}
HEADS = {"nnunet": NNUNET, "msd": DECATHLON, "listed": LISTED, "regions": REGIONS}
ODD = [None, True, 3, -1.5, "MRI", "", [], [None], ["MRI"], [[1]], {}, {"a": None}, {"0": []}, {"x": {"y": 1}}]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    ("head", "key"), [(head, key) for head in HEADS.values() for key in head],
    ids=[f"{name} {key}" for name, head in HEADS.items() for key in head],
)  # fmt: skip
def test_odd_values_in_dataset_json_are_a_user_mistake(tmp_path: Path, head: dict, key: str, odd: object) -> None:
    for path in (
        "i.nii", "l.nii", "i.nii.gz", "l.nii.gz", "imagesTr/c_0000.nii", "imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz",
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "dataset.json").write_text(json.dumps(head))
    assert list_raw(tmp_path).cases
    (tmp_path / "dataset.json").write_text(json.dumps(head | {key: odd}))
    try:
        assert list_raw(tmp_path).cases
    except UserError as error:
        assert "dataset.json" in str(error) or "is missing" in str(error) or "no training cases" in str(error)


def test_hidden_files_are_no_cases(tmp_path: Path) -> None:
    """macOS puts a `._name` beside each file that it copies or packs."""
    nnunet = ("nnunet/imagesTr/case_1_0000", "nnunet/labelsTr/case_1", "free/case_1")
    for name in (*nnunet, "decathlon/imagesTr/case_2", "decathlon/labelsTr/case_2"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        path.with_name(f"._{path.name}").write_bytes(b"")
    for folder, head, case in (("nnunet", NNUNET, "case_1"), ("decathlon", decathlon_head(["case_2"]), "case_2")):
        (tmp_path / folder / "dataset.json").write_text(json.dumps(head))
        assert [found.name for found in list_raw(tmp_path / folder).cases] == [case]
    assert list_raw(tmp_path / "nnunet", tmp_path / "free").cases[0].free == tmp_path / "free" / "case_1.nii.gz"
