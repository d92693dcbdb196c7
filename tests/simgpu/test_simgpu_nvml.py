# SPDX-License-Identifier: Apache-2.0
"""The simulated NVML tells of the simulated driver's devices, without initialising the driver."""

import json
import subprocess
import sys

import conftest

NVML = conftest.SIMGPU / "libnvidia-ml.so.1"
MIB = 1 << 20

# Asks as PyTorch does, before the driver is up, then allocates and asks again.
PROGRAM = r"""
import ctypes as c, json, os
nvml, cuda = c.CDLL("libnvidia-ml.so.1"), c.CDLL("libcuda.so.1")
answers = {}
assert nvml.nvmlInit() == 0
count, version, handle = c.c_uint(), c.c_int(), c.c_void_p()
assert nvml.nvmlDeviceGetCount_v2(c.byref(count)) == 0
assert nvml.nvmlSystemGetCudaDriverVersion_v2(c.byref(version)) == 0
answers["count"], answers["version"] = count.value, version.value
answers["driver before"] = cuda.cuDeviceGetCount(c.byref(count))
answers["no device"] = nvml.nvmlDeviceGetHandleByIndex_v2(answers["count"], c.byref(handle))
answers["no bus"] = nvml.nvmlDeviceGetHandleByPciBusId_v2(b"0000:77:00.0", c.byref(handle))

assert nvml.nvmlDeviceGetHandleByIndex_v2(1, c.byref(handle)) == 0
uuid = c.create_string_buffer(96)
assert nvml.nvmlDeviceGetUUID(handle, uuid, 96) == 0
answers["short"] = nvml.nvmlDeviceGetUUID(handle, uuid, 10)
same = c.c_void_p()
assert nvml.nvmlDeviceGetHandleByUUID(uuid, c.byref(same)) == 0 and same.value == handle.value
answers["uuid"] = uuid.value.decode()

def memory():
    numbers = (c.c_ulonglong * 3)()
    assert nvml.nvmlDeviceGetMemoryInfo(handle, numbers) == 0
    return list(numbers)

class Row(c.Structure):
    _fields_ = [("pid", c.c_uint), ("used", c.c_ulonglong)]

def processes(room=4):
    rows, n = (Row * 4)(), c.c_uint(room)
    status = nvml.nvmlDeviceGetComputeRunningProcesses(handle, c.byref(n), rows)
    return [status, n.value, rows[0].used if rows[0].pid == os.getpid() else None]

answers["memory before"], answers["processes before"] = memory(), processes()
assert cuda.cuInit(0) == 0
context, pointer, bus = c.c_void_p(), c.c_uint64(), c.create_string_buffer(32)
assert cuda.cuDevicePrimaryCtxRetain(c.byref(context), 1) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(c.byref(pointer), c.c_size_t(64 << 20)) == 0
assert cuda.cuDeviceGetPCIBusId(bus, 32, 1) == 0
for name in (bus.value, b"0000" + bus.value):
    assert nvml.nvmlDeviceGetHandleByPciBusId_v2(name, c.byref(same)) == 0
    assert same.value == handle.value
answers["memory after"], answers["processes after"] = memory(), processes()
answers["no room"] = processes(room=0)[:2]
print(json.dumps(answers))
"""


def test_devices_memory_and_processes(run_watched):
    env = {"SIMGPU_DEVICES": "3", "SIMGPU_MEMORY": "1G,2G", "SIMGPU_VERSION": "12040"}
    result = run_watched([sys.executable, "-c", PROGRAM], env=env, mode="none")
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    invalid, not_found, short = 2, 6, 7
    not_initialized = 3
    assert answers == {
        "count": 3,
        "version": 12040,
        "driver before": not_initialized,
        "no device": invalid,
        "no bus": not_found,
        "short": short,
        "uuid": "GPU-73696d75-6c61-7465-642d-6770752d0001",
        "memory before": [2048 * MIB, 2048 * MIB, 0],
        "processes before": [0, 0, None],
        "memory after": [2048 * MIB, 1984 * MIB, 64 * MIB],
        "processes after": [0, 1, 64 * MIB],
        "no room": [short, 1],
    }


def test_needs_the_driver_alone():
    dynamic = subprocess.check_output(["readelf", "-d", NVML], text=True)
    assert "Library soname: [libnvidia-ml.so.1]" in dynamic
    assert "[libcuda.so.1]" in dynamic
