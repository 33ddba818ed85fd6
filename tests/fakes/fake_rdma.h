// SPDX-License-Identifier: Apache-2.0
// The controls of fake_rdma.cc, for tests in whose process it is loaded: what happens to cables, address tables and
// memory. Devices and ports are counted from 0 and 1, as in FAKE_RDMA_DEVICES.
#pragma once

#include <cstdint>

namespace tutti::fakes {

struct FakeRdma {
  // A port that is not up carries nothing. Noticed: the driver reports it (an event, the port's state).
  void (*set_port)(int device, int port, bool up, bool noticed);
  // The entry of a port's address table goes to another place, as when an interface is set up anew.
  void (*move_gid)(int device, int port, int from, int to);
  // The next `count` memory regions are refused, as by a limit on locked memory; -1: all.
  void (*refuse_memory)(int count);
  // Whether a device takes memory of GPUs, by descriptor (without this: it does) and by address (it does not).
  void (*gpu_memory)(int device, bool dma_buf, bool peer_memory);
  // The peers of a device's queue pairs take writes for forbidden from now on.
  void (*forget_keys)(int device);
  // Objects that were made and not destroyed, of all kinds.
  int (*live_objects)();
};

// Of the library at `path`, loaded.
FakeRdma fake_rdma(const char* path);

}  // namespace tutti::fakes
