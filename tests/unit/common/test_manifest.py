"""Names of devices in manifests."""

import platform
import sys

import pytest

from unmask.common.manifest import device_name, processor_name

WIDE = "avx512f avx512bw avx512dq avx512vl"
HERE = platform.machine()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (f"sse2 avx2 fma {WIDE}", "AMD EPYC 9654 (AVX512)"),
        ("sse2 avx2 fma avx512f", "AMD EPYC 9654 (AVX2)"),
        ("sse2 avx", f"AMD EPYC 9654 ({HERE})"),
    ],
)
def test_a_processor_has_its_name_and_vector_instructions(flags, expected, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    core = f"processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: {flags}\n\n"
    (tmp_path / "cpuinfo").write_text(2 * core)
    assert processor_name(tmp_path / "cpuinfo") == expected


def test_what_torch_uses_counts_if_it_is_loaded(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    (tmp_path / "cpuinfo").write_text(f"model name\t: AMD EPYC\nflags\t: avx2 fma {WIDE}\n")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert processor_name(tmp_path / "cpuinfo") == "AMD EPYC (AVX2)"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert processor_name(tmp_path / "cpuinfo") == f"AMD EPYC ({HERE})"
    assert device_name(torch.device("cpu")) == processor_name()


def test_without_cpuinfo_the_architecture_is_left(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert processor_name(tmp_path / "absent") == f"cpu ({HERE})"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")
    assert processor_name(tmp_path / "cpuinfo") == f"cpu ({HERE})"
