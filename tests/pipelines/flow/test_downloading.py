"""A flow that begins with a URL list: what fails stays told, and a retry asks for it alone."""

from pathlib import Path

import pytest
from deduping import write_sets
from flows import flow_at, go
from image_server import image_server

from pipelines.flow.ledger import StepBook
from pipelines.flow.retry import retry_flow
from pipelines.watch import Watch

SOURCE = {"url": "url", "options": {"samples_per_shard": 10, "threads": 2, "timeout": 5}}


def counts(run: Path) -> dict[str, int]:
    record = StepBook(run, "download/old").record()
    assert record is not None
    return record.counts


@pytest.mark.slow
def test_a_flow_begins_with_a_url_list_and_a_retry_asks_for_what_failed(tmp_path: Path) -> None:
    pytest.importorskip("img2dataset")
    write_sets(tmp_path)
    listed = tmp_path / "urls.txt"
    with image_server() as server:
        listed.write_text(
            f"{server.address}/ok1\n{server.address}/ok2\n{server.address}/broken-twice\n"
        )
        flow = flow_at(
            tmp_path,
            sets={
                "new": {"shards": "test"},
                "old": {"download": {**SOURCE, "urls": str(listed)}},
            },
        )
        first = go(flow)
        assert first.exit_code == 0
        assert counts(first.run) == {"rows": 3, "success": 2, "failed_to_download": 1}
        assert go(flow).done == []
        for left in (1, 0):
            again = retry_flow(first.run, lambda _name: Watch())
            assert "download/old" in again.done
            assert counts(first.run).get("failed_to_download", 0) == left
    assert again.exit_code == 0
    assert counts(first.run) == {"rows": 3, "success": 3}
