"""Slurm's printed words, of several versions and of people who mean ill: what is read, and what is left out."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.cluster import slurm_text as text
from ostler.adapters.cluster.port import CordonView, IdleRun
from ostler.adapters.cluster.slurm_idle import script
from ostler.core.errors import BadInput

LINE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=1  CPUAlloc=0 CPUTot=8 CPULoad=0.2 AvailableFeatures=h100,r7"
    " ActiveFeatures={features} Gres={gres} NodeAddr=10.0.0.7 NodeHostName=vm Version=22.05.8 OS={os}"
    "  RealMemory=1000 AllocMem=0 FreeMem=1 Sockets=8 Boards=1 State={state} ThreadsPerCore=1 TmpDisk=0 Weight=1"
    " Owner=N/A MCS_label=N/A Partitions=main  BootTime=None CfgTRES=cpu=8 AllocTRES={tail}"
)


def node(state: str = "IDLE", tail: str = "", **fields: str) -> text.SlurmNode:
    values = {"name": "gpu-1", "features": "h100", "gres": "gpu:h100:8(S:0-1)", "os": "Linux 6.1 #1 SMP", **fields}
    (found,) = text.read_nodes(LINE.format(state=state, tail=tail, **values))
    return found


def because(reason: str) -> str:
    return f" Reason={reason} [root@2026-11-20T10:00:00]"


@pytest.mark.parametrize(
    ("state", "reason", "ours", "others", "ready"),
    [
        ("IDLE", "", False, False, True),
        ("MIXED+PLANNED", "", False, False, True),
        ("IDLE+DRAIN", "bad DIMM", False, True, True),
        ("IDLE+DRAIN", "", False, True, True),
        ("IDLE+DRAIN", text.our_reason("XID 79"), True, False, True),
        ("DRAINED*", text.our_reason("XID 79"), True, False, False),
        ("DOWN*", "Not responding", False, False, False),
        ("DOWN+NOT_RESPONDING", "Not responding", False, False, False),
        ("DOWN", "Node unexpectedly rebooted", False, True, False),
        ("DOWN*+DRAIN", "Not responding", False, True, False),
        ("DOWN+DRAIN+NOT_RESPONDING", text.our_reason("x"), True, False, False),
        ("IDLE+FAIL", "failing", False, True, True),
        ("IDLE+POWERED_DOWN", "", False, False, False),
        ("IDLE~", "", False, False, True),
        ("UNKNOWN", "", False, False, False),
        ("IDLE", text.our_reason("undrained by hand, the reason stayed"), False, False, True),
    ],
)
def test_a_state_says_who_holds_a_node(state: str, reason: str, ours: bool, others: bool, ready: bool) -> None:
    found = node(state, because(reason) if reason else "")
    assert (found.view, found.ready) == (CordonView(ours, others), ready)


@pytest.mark.parametrize(
    "reason", ["", "XID 79", 'a "b" [c] \\ `d`\n\x1b[2J', "ü" * 9, "y" * 999, "ends in (0123abcd)"]
)
def test_a_reason_of_ours_is_known_again_whatever_it_says(reason: str) -> None:
    written = text.our_reason(reason)
    assert written.isascii()
    assert written.isprintable()
    assert len(written) < 230
    assert node("IDLE+DRAIN", because(written)).ours
    assert node("IDLE+DRAIN", because(written) + " Comment=x [y@z] Reason=w").ours
    for edited in (f"{written}.", written.replace("ostler: ", "ostler: x", 1), written[:-1], f"x{written}"):
        assert node("IDLE+DRAIN", because(edited)).view == CordonView(ours=False, others=True)


def test_what_a_node_says_of_itself_names_no_other_state() -> None:
    liar = node("IDLE+DRAIN", because("theirs"), os="Linux NodeName=gpu-2 Gres=gpu:9 Reason State=IDLE")
    assert (liar.name, liar.others) == ("gpu-1", True)
    assert text.cluster_node(liar).gpus == 8
    assert list(text.read_nodes("NodeName=ALL State=IDLE ThreadsPerCore=1\nNode x not found\n\nrubbish")) == []


@pytest.mark.parametrize(
    ("gres", "gpus", "sku"),
    [
        ("gpu:h100:8(S:0-1)", 8, "h100"),
        ("gpu:4", 4, ""),
        ("gpu:a100:2(S:0),gpu:h100:2,nic:1", 4, ""),
        ("(null)", 0, ""),
        ("gpu:h100:8x", 0, ""),
    ],
)
def test_gpus_are_counted(gres: str, gpus: int, sku: str) -> None:
    found = text.cluster_node(node(gres=gres))
    assert (found.gpus, found.sku) == (gpus, sku)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tail": " Comment=serial=SN1 slot=a/b/c/u1"}, ("SN1", "a/b/c/u1", "h100")),
        ({"tail": ' Extra={"serial": "SN2", "sku": "h100-sxm", "n": 1}'}, ("SN2", "", "h100-sxm")),
        ({"tail": because("serial=NO") + " Comment=serial=SN1, rack 7"}, ("SN1", "", "h100")),
        ({"tail": " Extra={not json"}, ("", "", "h100")),
        ({"features": "ib,sku=gh200,slot:x/y/z/u2"}, ("", "x/y/z/u2", "gh200")),
    ],
)
def test_serial_slot_and_sku_may_be_said_in_words(fields: dict[str, str], said: tuple[str, str, str]) -> None:
    found = text.cluster_node(node(**fields))
    assert (found.serial, found.slot, found.sku) == said


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ("gpu-1", ["gpu-1"]),
        ("gpu[08-10,3],login1", ["gpu08", "gpu09", "gpu10", "gpu3", "login1"]),
        ("r[1-2]n[1-2]x", ["r1n1x", "r1n2x", "r2n1x", "r2n2x"]),
        ("gpu[x],gpu[3-1]", []),
    ],
)
def test_host_lists(hosts: str, names: list[str]) -> None:
    assert text.expand(hosts) == names


@pytest.mark.parametrize("hosts", ["a[1-999999999]", "a[1-99999][1-99999]", "a[1-9][1-9][1-9][1-9][1-9][1-9][1-9]"])
def test_a_host_list_of_everything_is_refused(hosts: str) -> None:
    with pytest.raises(BadInput, match="names more than"):
        text.expand(hosts)


def test_jobs_are_folded_into_their_roots_and_smuggled_lines_are_none() -> None:
    lines = (
        "7|7|RUNNING|gpu-[1-2]\n9|8_1|COMPLETING|gpu-1\n11|10+1|RUNNING|gpu-3\n5|5|PENDING|\n6|6|PENDING|gpu-1\nx|y\n"
    )
    found = [(job.id, job.root, sorted(job.nodes)) for job in text.read_jobs(lines)]
    assert found == [("7", "7", ["gpu-1", "gpu-2"]), ("9", "8", ["gpu-1"]), ("11", "10", ["gpu-3"])]


@pytest.mark.parametrize(
    ("detail", "indices"),
    [
        ("     Nodes=gpu-1 CPU_IDs=0 Mem=0 GRES=gpu:h100:3(IDX:0-1,5)", {0, 1, 5}),
        ("     Nodes=gpu-[1-2] CPU_IDs=0-1 Mem=9 GRES=gpu:a:1(IDX:0),gpu:b:1(IDX:4),nic:1", {0, 4}),
        ("     Nodes=gpu-1 CPU_IDs=0 Mem=0 GRES=", set()),
        ("     Nodes=gpu-1 CPU_IDs=0 Mem=0 GRES=gpu:2", None),
        ("     Nodes=gpu-2 CPU_IDs=0 Mem=0 GRES=gpu:2(IDX:0-1)", None),
        ("JobId=1 JobName=x Nodes=gpu-1 CPU_IDs=0 Mem=0 GRES=gpu:1(IDX:7)", None),
    ],
)
def test_gpu_indices_of_a_job(detail: str, indices: set[int] | None) -> None:
    assert text.gpus_of(f"JobId=7\n{detail}\n   MinCPUsNode=1\n", "gpu-1") == indices


def test_where_nobody_knows_whose_a_gpu_is_all_work_is_concerned() -> None:
    assert text.concerned(None, [1])
    assert text.concerned(frozenset({1, 2}), [2])
    assert not text.concerned(frozenset({1, 2}), [3])
    assert text.concerned(frozenset(), [])


def test_the_words_of_a_command_mean_nothing_to_the_shell() -> None:
    made = script(IdleRun("gpu-1", ("check", "$(reboot)", "a'b; rm -rf /"), 8, 60))
    assert "check '$(reboot)' 'a'\"'\"'b; rm -rf /' </dev/null" in made
    assert "timeout -k 5 60 " in made


@given(st.text(max_size=300))
def test_any_text_is_read_or_left_out(words: str) -> None:
    for line in (words, LINE.format(name="a", features=words, gres=words, os=words, state="IDLE", tail=words)):
        for one in text.read_nodes(line):
            text.cluster_node(one)
    assert text.is_ours(text.our_reason(words))
    with contextlib.suppress(BadInput):
        list(text.read_jobs(words))
        text.gpus_of(words, "a")
