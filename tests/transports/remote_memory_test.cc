// SPDX-License-Identifier: Apache-2.0
// Reaching a peer's memory: the kernel's copy and its failures, the attempt at initialisation, and the memory that
// windows are made of.
#include "transports/remote/remote_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "transports/remote/shared_memory.h"

namespace tutti {
namespace {

// A child that waits to be killed, with the memory of its parent at the fork.
class Child {
 public:
  Child() : process_(fork()) {
    if (process_ > 0) return;
    for (;;) pause();
  }
  ~Child() { end(); }
  pid_t process() const { return process_; }
  void end() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }

 private:
  pid_t process_;
};

RemoteMemory memory_of(pid_t process) { return RemoteMemory({true, false}, {getpid(), process}); }

TEST(RemoteMemory, IsCopiedByTheKernel) {
  std::vector<char> data(3 << 20, 'a');
  Child child;
  std::fill(data.begin(), data.end(), 'b');
  std::vector<char> got(data.size());
  const Status read =
      memory_of(child.process()).read(1, got.data(), reinterpret_cast<uint64_t>(data.data()), data.size());
  ASSERT_TRUE(read.ok()) << read.message();
  EXPECT_EQ(got, std::vector<char>(data.size(), 'a'));
}

TEST(RemoteMemory, ADeadPeerIsNamed) {
  Child child;
  const pid_t process = child.process();
  child.end();
  char byte = 0;
  const Status read = memory_of(process).read(1, &byte, reinterpret_cast<uint64_t>(&byte), 1);
  EXPECT_EQ(read.code(), Code::RemoteError);
  EXPECT_NE(read.message().find("rank 1"), std::string::npos) << read.message();
  EXPECT_NE(read.message().find("ended"), std::string::npos) << read.message();
}

TEST(RemoteMemory, MemoryThatIsNotThereIsAnError) {
  const long page = sysconf(_SC_PAGESIZE);
  char* two = static_cast<char*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(two, MAP_FAILED);
  std::memset(two, 1, 2 * page);
  ASSERT_EQ(munmap(two + page, page), 0);
  Child child;
  std::vector<char> got(2 * page);
  const Status read = memory_of(child.process()).read(1, got.data(), reinterpret_cast<uint64_t>(two), 2 * page);
  EXPECT_EQ(read.code(), Code::RemoteError);
  EXPECT_NE(read.message().find("cannot be read"), std::string::npos) << read.message();
  munmap(two, page);
}

TEST(RemoteMemory, TheAttemptTellsWhoCannotBeRead) {
  MemoryProbe probes[] = {offer_probe(), offer_probe()};
  EXPECT_EQ(try_probes(probes, {true, true}), "");
  ++probes[1].word;
  EXPECT_NE(try_probes(probes, {true, true}).find("rank 1 means another process"), std::string::npos);
  EXPECT_EQ(try_probes(probes, {true, false}), "");  // of one's own process nobody asks
  Child child;
  probes[0].process = child.process();
  child.end();
  EXPECT_NE(try_probes(probes, {true, false}).find("rank 0"), std::string::npos);
}

TEST(RemoteMemory, WindowsAreFoundByNumber) {
  RemoteMemory memory = memory_of(1);
  std::byte mine[64], theirs[64];
  const uint32_t first = memory.add_window({mine, theirs});
  const uint32_t second = memory.add_window({theirs, mine});
  EXPECT_TRUE(memory.has_window(0) && memory.has_window(first) && memory.has_window(second));
  EXPECT_FALSE(memory.has_window(second + 1));
  EXPECT_EQ(memory.find(1, first, 8).mapped, theirs + 8);
  EXPECT_EQ(memory.find(1, second, 8).mapped, mine + 8);
  memory.remove_window(first);
  EXPECT_FALSE(memory.has_window(first));
  EXPECT_TRUE(memory.has_window(second));
  EXPECT_EQ(memory.find(0, 0, reinterpret_cast<uint64_t>(mine)).mapped, mine);  // same process
  EXPECT_EQ(memory.find(1, 0, 77).mapped, nullptr);
  EXPECT_EQ(memory.find(1, 0, 77).address, 77u);
}

TEST(SharedMemory, IsZeroedSealedAndFound) {
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{4097}, uint64_t{5} << 20}) {
    Result<std::shared_ptr<SharedMemory>> made = SharedMemory::create(bytes);
    ASSERT_TRUE(made.ok()) << made.status().message();
    const std::shared_ptr<SharedMemory> memory = *made;
    ASSERT_GE(memory->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->base()) % 4096, 0u);
    for (uint64_t i = 0; i < bytes; i += 511) ASSERT_EQ(memory->base()[i], std::byte{0});
    EXPECT_NE(ftruncate(memory->descriptor(), 0), 0);
    EXPECT_NE(fcntl(memory->descriptor(), F_GETFD) & FD_CLOEXEC, 0);

    EXPECT_EQ(find_shared_memory(memory->base(), 1), nullptr);
    keep_shared_memory(memory);
    EXPECT_EQ(find_shared_memory(memory->base(), memory->bytes()), memory);
    EXPECT_EQ(find_shared_memory(memory->base() + memory->bytes() - 1, 1), memory);
    EXPECT_EQ(find_shared_memory(memory->base() + memory->bytes() - 1, 2), nullptr);
    EXPECT_EQ(find_shared_memory(memory->base() - 1, 1), nullptr);
    EXPECT_EQ(drop_shared_memory(memory->base() + 1), nullptr);
    EXPECT_EQ(drop_shared_memory(memory->base()), memory);
    EXPECT_EQ(drop_shared_memory(memory->base()), nullptr);
  }
}

TEST(SharedMemory, WhatDoesNotFitIsAnErrorAtOnce) {
  for (const uint64_t bytes : {uint64_t{1} << 46, uint64_t{1} << 62, UINT64_MAX}) {
    const Result<std::shared_ptr<SharedMemory>> made = SharedMemory::create(bytes);
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.status().code(), Code::SystemError);
  }
}

}  // namespace
}  // namespace tutti
