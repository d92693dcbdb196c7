# SPDX-License-Identifier: Apache-2.0
"""PyTorch's official CUDA wheel takes and gives back memory of the simulated GPU, by each of its
allocators, and the report agrees with the GPU's books and with PyTorch's own figures."""


def test_the_device_is_there(torch_run):
    run = torch_run("""
        torch.cuda.set_device(1)
        p = torch.cuda.get_device_properties(1)
        answer = [torch.cuda.is_available(), torch.cuda.device_count(), p.name, p.total_memory,
                  list(torch.cuda.mem_get_info(1)), list(torch.cuda.get_device_capability(1)),
                  torch.cuda.current_device()]
        kept = torch.zeros(1, device="cuda")
    """, env={"SIMGPU_DEVICES": "2", "SIMGPU_MEMORY": "16G,8G"})
    assert run.answer == [True, 2, "Simulated GPU 1", 8 << 30, [8 << 30, 8 << 30], [9, 0], 1]


def test_segments_are_what_torch_has_reserved(torch_run):
    run = torch_run("""
        small = [torch.empty(1000, device="cuda") for _ in range(100)]
        large = [torch.empty(3 << 20, device="cuda") for _ in range(5)]
        other = torch.empty(1 << 20, device="cuda:1")
        del large[2:4]
        answer = [[torch.cuda.memory_reserved(d), torch.cuda.memory_allocated(d),
                   torch.cuda.max_memory_reserved(d)] for d in range(2)]
        stats = torch.cuda.memory_stats(0)
        assert stats["reserved_bytes.all.current"] == answer[0][0]
        assert stats["segment.all.current"] == len(torch.cuda.memory_snapshot()) - 1
    """)
    for device, (reserved, allocated, peak) in enumerate(run.answer):
        assert 0 < allocated < reserved
        row = run.total(device, "device")
        assert (row["live_bytes"], row["peak_bytes"]) == (reserved, peak)


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
    assert before - after == 256 << 20
    row = run.total(0, "device")
    assert (row["peak_bytes"], row["live_bytes"], row["frees"]) == (before, after, 1)
