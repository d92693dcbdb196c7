# SPDX-License-Identifier: Apache-2.0
"""PyTorch's official CUDA wheel takes and gives back memory of the simulated GPU, by each of its
allocators, and the report agrees with the GPU's books and with PyTorch's own figures."""

import re

from .judging import held_by_library

MIB = 1 << 20

# Some of everything: blocks from small and large segments, of which some are free again.
ALLOCATE = """
    small = [torch.empty(1000, device="cuda") for _ in range(1000)]
    large = [torch.empty(3 << 20, device="cuda") for _ in range(5)]
    huge = torch.empty(64 << 20, device="cuda")
    del small[::2], large[1:3]
"""
FIGURES = """
    answer = {"reserved": torch.cuda.memory_reserved(), "allocated": torch.cuda.memory_allocated(),
              "peak": torch.cuda.max_memory_reserved(), "tensors": torch.cuda.max_memory_allocated()}
    leave()
"""


def live_and_peak(row):
    return row["live_bytes"], row["peak_bytes"]


def test_the_devices_are_there(torch_run):
    run = torch_run("""
        torch.cuda.set_device(1)
        p = torch.cuda.get_device_properties(1)
        answer = [torch.cuda.is_available(), torch.cuda.device_count(), p.name, p.total_memory,
                  list(torch.cuda.mem_get_info(1)), list(torch.cuda.get_device_capability(1)),
                  torch.cuda.current_device()]
        kept = torch.zeros(1, device="cuda")
    """, env={"SIMGPU_DEVICES": "2", "SIMGPU_MEMORY": "16G,8G"})
    assert run.answer == [True, 2, "Simulated GPU 1", 8 << 30, [8 << 30, 8 << 30], [9, 0], 1]


def test_segments_and_tensors_are_what_torch_has_reserved_and_allocated(torch_run):
    run = torch_run(ALLOCATE + """
    other = torch.empty(1 << 20, device="cuda:1")
    answer = [[torch.cuda.memory_reserved(d), torch.cuda.max_memory_reserved(d),
               torch.cuda.memory_allocated(d), torch.cuda.max_memory_allocated(d)] for d in range(2)]
    stats = [torch.cuda.memory_stats(d) for d in range(2)]
    assert [s["reserved_bytes.all.current"] for s in stats] == [a[0] for a in answer]
    segments = sum(s["segment.all.current"] for s in stats)
    assert segments == len(torch.cuda.memory_snapshot()) > 3
    leave()
    """)
    for device, (reserved, most_reserved, allocated, most_allocated) in enumerate(run.answer):
        assert 0 < allocated < reserved
        assert live_and_peak(run.total(device, "device")) == (reserved, most_reserved)
        assert live_and_peak(run.total(device, "tensor")) == (allocated, most_allocated)


def test_an_emptied_cache_is_given_back(torch_run):
    run = torch_run("""
        kept = torch.empty(100, device="cuda")
        large = torch.empty(64 << 20, device="cuda")
        before = torch.cuda.memory_reserved()
        del large
        torch.cuda.empty_cache()
        answer = [before, torch.cuda.memory_reserved()]
    """)
    before, after = run.answer
    assert before - after == 256 * MIB
    row = run.total(0, "device")
    assert (row["peak_bytes"], row["live_bytes"], row["frees"]) == (before, after, 1)


def test_expandable_segments_are_physical_memory(torch_run):
    run = torch_run(ALLOCATE + "    del huge; torch.cuda.empty_cache()" + FIGURES,
                    env={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
    assert run.total(0, "device") is None
    for space in ("physical", "mapped"):
        row = run.total(0, space)
        assert live_and_peak(row) == (run.answer["reserved"], run.answer["peak"])
        assert row["frees"] > 0
    assert live_and_peak(run.total(0, "tensor")) == (run.answer["allocated"], run.answer["tensors"])
    assert run.answer["allocated"] < run.answer["reserved"] < run.answer["peak"]


def test_the_stream_ordered_allocator_takes_each_tensor_from_the_driver(torch_run):
    run = torch_run(ALLOCATE + """
    assert torch.cuda.get_allocator_backend() == "cudaMallocAsync"
    """ + FIGURES, env={"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"})
    row = run.total(0, "device")
    assert row["live_bytes"] == run.answer["allocated"]
    assert row["allocations"] == 1006 and row["frees"] == 502


def test_without_caching_each_tensor_is_an_allocation(torch_run):
    run = torch_run(ALLOCATE + """
    leave()
    """, env={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    row = run.total(0, "device")
    assert row["allocations"] == 1006 and row["frees"] == 502
    assert row["live_bytes"] == 500 * 4000 + 3 * 12 * MIB + 256 * MIB


def test_pinned_memory_is_a_space_of_its_own(torch_run):
    run = torch_run("""
        pinned = [torch.ones(1 << 20).pin_memory() for _ in range(3)]
        on_gpu = [p.to("cuda", non_blocking=True) for p in pinned]
        torch.cuda.synchronize()
        answer = [all(p.is_pinned() for p in pinned), float(on_gpu[2].cpu().sum())]
        del pinned[0]
    """)
    assert run.answer == [True, 1 << 20]
    row = run.total(-1, "pinned")
    # Freed blocks stay in the cache of pinned memory.
    assert row["allocations"] == 3 and row["frees"] == 0
    assert row["live_bytes"] == 3 * 4 * MIB


def test_a_captured_graph_has_a_pool_of_its_own(torch_run):
    run = torch_run("""
        x = torch.ones(4 << 20, device="cuda")
        w = torch.zeros(64, 64, device="cuda")
        torch.mm(w, w)  # cuBLAS takes memory when it starts, which no capture allows
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = x * 2
            z = y + torch.mm(w, w).sum()
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
        pools = {}
        for segment in torch.cuda.memory_snapshot():
            pool = str(segment["segment_pool_id"])
            pools[pool] = pools.get(pool, 0) + segment["total_size"]
        del y, z
        answer = [torch.cuda.memory_reserved(), torch.cuda.memory_allocated(), pools]
        leave()
    """)
    reserved, allocated, pools = run.answer
    assert sum(pools.values()) == reserved
    assert len(pools) == 2 and sum(size for pool, size in pools.items() if pool != "(0, 0)") >= 32 * MIB
    assert run.total(0, "device")["live_bytes"] == reserved + held_by_library(run.report, "cublas")
    assert run.total(0, "tensor")["live_bytes"] == allocated


def test_a_memory_pool_by_hand(torch_run):
    run = torch_run("""
        pool = torch.cuda.MemPool()
        with torch.cuda.use_mem_pool(pool):
            x = torch.empty(32 << 20, device="cuda")
        y = torch.empty(16, device="cuda")
        answer = torch.cuda.memory_reserved()
        leave()
    """)
    assert run.total(0, "device")["live_bytes"] == run.answer >= 128 * MIB


def test_out_of_memory_is_torchs_own_error(torch_run):
    run = torch_run("""
        kept = []
        try:
            for _ in range(100):
                kept.append(torch.empty(64 << 20, device="cuda"))
        except torch.OutOfMemoryError as error:
            answer = [len(kept), str(error).replace(str(os.getpid()), "PID")]
    """, env={"SIMGPU_MEMORY": "2G"})
    fitted, message = run.answer
    assert fitted == 8
    assert message.startswith("CUDA out of memory. Tried to allocate 256.00 MiB. GPU 0 has a total "
                              "capacity of 2.00 GiB of which 0 bytes is free.")
    assert "this process has 2.00 GiB memory in use" in message
    assert "2.00 GiB is allocated by PyTorch" in message
    # Torch frees its cache and tries again before it gives up.
    assert run.total(0, "device")["failed"] == 2
    (finding,) = run.report["findings"]  # two refused calls and PyTorch's error are one failure
    assert finding["type"] == "out_of_memory" and finding["knowledge"] and finding["do"]


def test_out_of_memory_of_the_stream_ordered_allocator(torch_run):
    run = torch_run("""
        try:
            torch.empty(1 << 30, device="cuda")
        except torch.OutOfMemoryError as error:
            answer = str(error)
    """, env={"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync", "SIMGPU_MEMORY": "2G"})
    # Up to 2.8 the message ends at the device, whose number is printed as a zero byte.
    assert re.match(r"Allocation on device (0 would exceed|$)", run.answer)
    assert run.total(0, "device")["failed"] > 0


def test_torchs_own_recording_goes_on_beside_ours(torch_run):
    run = torch_run("""
        torch.cuda.memory._record_memory_history()
        def take(): return torch.empty(5 << 20, device="cuda")
        kept = [take() for _ in range(4)]
        snapshot = torch.cuda.memory._snapshot()
        torch.cuda.memory._record_memory_history(enabled=None)
        names = {f["name"] for t in snapshot["device_traces"][0] for f in t.get("frames", ())}
        answer = [len(snapshot["segments"]), "take" in names, torch.cuda.memory_reserved()]
    """)
    segments, named, reserved = run.answer
    assert segments == 4 and named
    assert run.total(0, "device")["live_bytes"] == reserved
    site = max(run.report["sites"], key=lambda s: s["live_bytes"])
    assert any(f.get("function") == "take" for f in site["frames"])
