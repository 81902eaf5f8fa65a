"""Uses the stand-in libnvidia-ml.so.1 as a client that nobody here wrote does: NVIDIA's own Python
bindings (PyPI nvidia-ml-py). Ends with 0 if everything is as on real MIG hardware, else with 1 and
one sentence that names the first difference.

    python check_fake_nvml.py FOLDER     FOLDER holds libnvidia-ml.so.1
"""

import os
import subprocess
import sys
import tempfile
from ctypes import byref, c_uint

CONFIG = """
[host]
driver_version = "580.126.09"
state = "state"
seed = "check"
[[gpu]]
board = "A100-SXM4-40GB"
flipped = true
minors = [3]
[[gpu]]
board = "H100-80GB-HBM3"
[[gpu]]
board = "T4"
"""


def same(what, found, expected):
    """The whole comparison: a difference ends the check."""
    # The bindings hand some numbers out as ctypes objects.
    found = getattr(found, "value", found)
    if found != expected:
        sys.exit(f"{what}: expected {expected!r}, found {found!r}")


def refused(what, code, call, *arguments):
    """A call must end with one particular NVML error."""
    try:
        call(*arguments)
    except nvml.NVMLError as error:
        same(what, error.value, code)
        return
    sys.exit(f"{what}: expected NVML error {code}, but it succeeded")


def placements(gpu, profile):
    count = c_uint(0)
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu, profile, None, byref(count))
    array = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu, profile, array, byref(count))
    return [(place.start, place.size) for place in array]


def instances(gpu, profile):
    array = (nvml.c_nvmlGpuInstance_t * 8)()
    count = c_uint(0)
    nvml.nvmlDeviceGetGpuInstances(gpu, profile, array, byref(count))
    found = [nvml.nvmlGpuInstanceGetInfo(array[at]) for at in range(count.value)]
    return [(info.id, info.placement.start, info.placement.size) for info in found]


def mig_devices(gpu):
    """As callers must: every index up to the largest possible one, holes allowed."""
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
        except nvml.NVMLError_NotFound:
            continue
    return found


def create_at(gpu, profile, start, size):
    place = nvml.c_nvmlGpuInstancePlacement_t()
    place.start, place.size = start, size
    return nvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, profile, byref(place))


def check_enumeration():
    same("driver version", nvml.nvmlSystemGetDriverVersion(), "580.126.09")
    same("CUDA version", nvml.nvmlSystemGetCudaDriverVersion_v2(), 13000)
    same("number of GPUs", nvml.nvmlDeviceGetCount(), 3)
    gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(3)]
    names = ["NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3", "Tesla T4"]
    same("names", [nvml.nvmlDeviceGetName(gpu) for gpu in gpus], names)
    same("minor numbers", [nvml.nvmlDeviceGetMinorNumber(gpu) for gpu in gpus], [3, 1, 2])
    same("capabilities", [nvml.nvmlDeviceGetCudaComputeCapability(gpu) for gpu in gpus],
         [(8, 0), (9, 0), (7, 5)])
    same("architectures", [nvml.nvmlDeviceGetArchitecture(gpu) for gpu in gpus],
         [nvml.NVML_DEVICE_ARCH_AMPERE, nvml.NVML_DEVICE_ARCH_HOPPER, nvml.NVML_DEVICE_ARCH_TURING])
    for index, gpu in enumerate(gpus):
        uuid = nvml.nvmlDeviceGetUUID(gpu)
        same("GPU by uuid", nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByUUID(uuid)), index)
        bus = nvml.nvmlDeviceGetPciInfo(gpu).busId
        same("GPU by bus", nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByPciBusId(bus)), index)
    same("memory of the A100", nvml.nvmlDeviceGetMemoryInfo(gpus[0]).total, 40960 << 20)
    version2 = nvml.nvmlDeviceGetMemoryInfo(gpus[0], version=nvml.nvmlMemory_v2)
    same("memory by the second layout", version2.total, 40960 << 20)
    resetless = [
        nvml.nvmlDeviceGetFieldValues(gpu, [184])[0].value.uiVal for gpu in gpus[:2]
    ]
    same("MIG without reset", resetless, [0, 1])
    refused("unknown uuid", nvml.NVML_ERROR_NOT_FOUND, nvml.nvmlDeviceGetHandleByUUID, "GPU-0")
    refused("index 3", nvml.NVML_ERROR_INVALID_ARGUMENT, nvml.nvmlDeviceGetHandleByIndex, 3)
    return gpus


def check_modes(a100, h100, t4):
    refused("MIG on a T4", nvml.NVML_ERROR_NOT_SUPPORTED, nvml.nvmlDeviceGetMigMode, t4)
    for gpu in (a100, h100):
        same("mode at first", nvml.nvmlDeviceGetMigMode(gpu), [0, 0])
        same("devices without MIG", nvml.nvmlDeviceGetMaxMigDeviceCount(gpu), 0)
        refused("creation without MIG", nvml.NVML_ERROR_NOT_SUPPORTED,
                nvml.nvmlDeviceCreateGpuInstance, gpu, 19)
        same("activation", nvml.nvmlDeviceSetMigMode(gpu, nvml.NVML_DEVICE_MIG_ENABLE), 0)
        same("mode afterwards", nvml.nvmlDeviceGetMigMode(gpu), [1, 1])
        same("most devices", nvml.nvmlDeviceGetMaxMigDeviceCount(gpu), 7)


def check_profiles(a100, h100):
    rows = {}
    for index in range(0x12):
        try:
            info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(h100, index)
        except nvml.NVMLError_NotSupported:
            continue
        name = info.name.decode() if isinstance(info.name, bytes) else info.name
        rows[name] = (info.id, info.instanceCount, info.multiprocessorCount, info.memorySizeMB)
        old = nvml.nvmlDeviceGetGpuInstanceProfileInfo(h100, index, version=1)
        same("both layouts", (old.id, old.memorySizeMB), (info.id, info.memorySizeMB))
    same("profiles of the H100", rows, {
        "MIG 1g.10gb": (19, 7, 16, 9984),
        "MIG 2g.20gb": (14, 3, 32, 20096),
        "MIG 3g.40gb": (9, 2, 60, 40448),
        "MIG 4g.40gb": (5, 1, 64, 40448),
        "MIG 7g.80gb": (0, 1, 132, 81152),
        "MIG 1g.10gb+me": (20, 1, 16, 9984),
        "MIG 1g.20gb": (15, 4, 26, 20096),
    })
    refused("enum 0x12", nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.nvmlDeviceGetGpuInstanceProfileInfo, h100, 0x12)
    same("placements of 3g", placements(a100, 9), [(0, 4), (4, 4)])
    same("placements of 2g", placements(a100, 14), [(0, 2), (2, 2), (4, 2)])
    same("placements of 1g with double memory", placements(h100, 15), [(0, 2), (2, 2), (4, 2), (6, 2)])
    left = lambda: [nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(a100, id)
                    for id in (19, 20, 15, 14, 9, 5, 0)]
    same("capacity", left(), [7, 1, 4, 3, 2, 1, 1])
    made = [nvml.nvmlDeviceCreateGpuInstance(a100, 5)]
    same("capacity after 4g", left(), [3, 1, 2, 1, 1, 0, 0])
    made.append(nvml.nvmlDeviceCreateGpuInstance(a100, 14))
    same("capacity after 4g and 2g", left(), [1, 1, 1, 0, 0, 0, 0])
    made.append(nvml.nvmlDeviceCreateGpuInstance(a100, 19))
    same("capacity after 4g, 2g and 1g", left(), [0] * 7)
    same("where they are", [nvml.nvmlGpuInstanceGetInfo(each).id for each in made], [2, 3, 9])
    refused("one more", nvml.NVML_ERROR_INSUFFICIENT_RESOURCES,
            nvml.nvmlDeviceCreateGpuInstance, a100, 19)
    for instance in made:
        nvml.nvmlGpuInstanceDestroy(instance)


def check_life(h100):
    instance = create_at(h100, 9, 4, 4)
    same("3g at 4", instances(h100, 9), [(2, 4, 4)])
    same("no device without compute instance", mig_devices(h100), [])
    refused("an occupied place", nvml.NVML_ERROR_INSUFFICIENT_RESOURCES, create_at, h100, 14, 4, 2)
    refused("an impossible place", nvml.NVML_ERROR_INVALID_ARGUMENT, create_at, h100, 14, 3, 2)
    profile = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, 2, 0)
    same("full compute profile", (profile.id, profile.multiprocessorCount), (2, 60))
    compute = nvml.nvmlGpuInstanceCreateComputeInstance(instance, 2)
    (device,) = mig_devices(h100)
    info = nvml.nvmlComputeInstanceGetInfo(compute)
    uuid = nvml.nvmlDeviceGetUUID(device)
    same("uuid by the compute instance", nvml.nvmlDeviceGetUUID(info.device), uuid)
    same("is a MIG device", nvml.nvmlDeviceIsMigDeviceHandle(device), 1)
    same("name", nvml.nvmlDeviceGetName(device), "NVIDIA H100 80GB HBM3 MIG 3g.40gb")
    same("instance ids", (nvml.nvmlDeviceGetGpuInstanceId(device),
                          nvml.nvmlDeviceGetComputeInstanceId(device)), (2, 0))
    attributes = nvml.nvmlDeviceGetAttributes(device)
    same("attributes", (attributes.multiprocessorCount, attributes.gpuInstanceSliceCount,
                        attributes.computeInstanceSliceCount, attributes.memorySizeMB),
         (60, 3, 3, 40448))
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    same("memory", (memory.total >> 20, memory.used >> 20), (40448, 15))
    parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)
    same("parent", nvml.nvmlDeviceGetUUID(parent), nvml.nvmlDeviceGetUUID(h100))
    same("processes", nvml.nvmlDeviceGetComputeRunningProcesses(device), [])
    refused("destroying with a compute instance", nvml.NVML_ERROR_IN_USE,
            nvml.nvmlGpuInstanceDestroy, instance)
    return uuid


def check_second_process(uuid):
    """Runs in a process of its own: sees what the first one made, and destroys it."""
    device = nvml.nvmlDeviceGetHandleByUUID(uuid)
    h100 = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)
    instance = nvml.nvmlDeviceGetGpuInstanceById(h100, nvml.nvmlDeviceGetGpuInstanceId(device))
    compute = nvml.nvmlGpuInstanceGetComputeInstanceById(instance, 0)
    nvml.nvmlComputeInstanceDestroy(compute)
    nvml.nvmlGpuInstanceDestroy(instance)
    refused("a stale handle", nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.nvmlGpuInstanceGetInfo, instance)
    a100 = nvml.nvmlDeviceGetHandleByIndex(0)
    same("mode that another client holds", nvml.nvmlDeviceSetMigMode(a100, 0),
         nvml.NVML_ERROR_IN_USE)
    same("it is pending", nvml.nvmlDeviceGetMigMode(a100), [1, 0])


def check_events(h100):
    events = nvml.nvmlEventSetCreate()
    nvml.nvmlDeviceRegisterEvents(h100, nvml.nvmlEventTypeXidCriticalError, events)
    refused("waiting for nothing", nvml.NVML_ERROR_TIMEOUT, nvml.nvmlEventSetWait_v2, events, 1)
    nvml.nvmlEventSetFree(events)


def check():
    nvml.nvmlInit()
    nvml.nvmlInit()
    nvml.nvmlShutdown()
    a100, h100, t4 = check_enumeration()
    check_modes(a100, h100, t4)
    check_profiles(a100, h100)
    uuid = check_life(h100)
    second = subprocess.run([sys.executable, __file__, "--second", uuid], check=False)
    if second.returncode:
        sys.exit("the second process found a difference")
    refused("a device that another process destroyed", nvml.NVML_ERROR_NOT_FOUND,
            nvml.nvmlDeviceGetHandleByUUID, uuid)
    same("mode when the other client is gone", nvml.nvmlDeviceSetMigMode(a100, 0), 0)
    again = create_at(h100, 9, 4, 4)
    compute = nvml.nvmlGpuInstanceCreateComputeInstance(again, 2)
    device = nvml.nvmlComputeInstanceGetInfo(compute).device
    same("uuid of the same place", nvml.nvmlDeviceGetUUID(device), uuid)
    check_events(h100)
    nvml.nvmlShutdown()
    refused("after the last shutdown", nvml.NVML_ERROR_UNINITIALIZED, nvml.nvmlDeviceGetCount)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--second":
        nvml.nvmlInit()
        check_second_process(sys.argv[2])
        nvml.nvmlShutdown()
    elif len(sys.argv) == 3 and sys.argv[1] == "--first":
        check()
        print("nvidia-ml-py finds nothing to complain about")
    elif len(sys.argv) == 2 and os.path.exists(os.path.join(sys.argv[1], "libnvidia-ml.so.1")):
        # The loader reads its search path when a process starts, hence another one.
        with tempfile.TemporaryDirectory() as folder:
            config = os.path.join(folder, "host.toml")
            with open(config, "w", encoding="utf-8") as file:
                file.write(CONFIG)
            where = os.path.abspath(sys.argv[1])
            environment = os.environ | {"LD_LIBRARY_PATH": where, "FAKE_NVML_CONFIG": config}
            run = [sys.executable, __file__, "--first", where]
            sys.exit(subprocess.run(run, env=environment, check=False).returncode)
    else:
        sys.exit("usage: check_fake_nvml.py FOLDER (FOLDER holds libnvidia-ml.so.1)")


if __name__ == "__main__":
    try:
        import pynvml as nvml
    except ImportError:
        sys.exit("nvidia-ml-py is missing: pip install nvidia-ml-py")
    try:
        main()
    except nvml.NVMLError as error:
        step = error.__traceback__
        while step.tb_next and step.tb_next.tb_frame.f_code.co_filename == __file__:
            step = step.tb_next
        sys.exit(f"{step.tb_frame.f_code.co_name}, line {step.tb_lineno}: NVML said {error}")
