// SPDX-License-Identifier: Apache-2.0
// GPUDirect RDMA: what is chosen before a device is asked, and why not more.
#include "comm/cuda_direct.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm_cuda/direct_machine.h"
#include "tests/fakes/tree.h"
#include "tests/gpu/fake_control.h"
#include "topology/formats/formats.h"

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using topology::PathClass;

Env settings(const std::vector<std::pair<std::string, std::string>>& set = {}) {
  Env env;
  const Status parsed = parse_env(
      [&](const char* name) -> std::optional<std::string> {
        for (const auto& [key, value] : set)
          if (key == name) return value;
        return std::nullopt;
      },
      env);
  EXPECT_TRUE(parsed.ok()) << parsed.message();
  return env;
}

// A GPU from Hopper on, with one card beside it.
DirectFacts good() {
  return {.gpu = "CUDA device 0",
          .device = {.dma_buf = true, .peer_memory = true, .ordered = true, .flushes = true, .capability_major = 9},
          .peermem_loaded = true,
          .cards = {{"near", PathClass::Pix}}};
}

TEST(GpuDirect, NothingSpeaksAgainstACardBesideTheGpu) {
  const Direct chosen = choose_direct(good(), settings());
  EXPECT_EQ(chosen.gpu.name, "CUDA device 0");
  EXPECT_THAT(chosen.gpu.not_in + chosen.gpu.not_out + chosen.gpu.no_dma_buf + chosen.gpu.no_peer_memory, IsEmpty());
  EXPECT_FALSE(chosen.gpu.flush);
  EXPECT_THAT(chosen.cards, ElementsAre("near"));
}

TEST(GpuDirect, DistanceIsALimitAndNearCardsLeaveTheOthersOut) {
  DirectFacts facts = good();
  facts.cards = {
      {"pix", PathClass::Pix}, {"pxb", PathClass::Pxb}, {"phb", PathClass::Phb}, {"sys", PathClass::Sys}, {"far", {}}};
  const auto cards = [&](const char* distance) {
    return choose_direct(facts, settings({{"TUTTI_GPU_DIRECT", distance}})).cards;
  };
  EXPECT_THAT(cards("auto"), ElementsAre("pix", "pxb"));
  EXPECT_THAT(cards("pix"), ElementsAre("pix"));
  EXPECT_THAT(cards("pxb"), ElementsAre("pix", "pxb"));
  EXPECT_THAT(cards("PHB"), ElementsAre("pix", "pxb", "phb"));
  EXPECT_THAT(cards("sys"), ElementsAre("pix", "pxb", "phb", "sys", "far"));
  EXPECT_THAT(cards("off"), ElementsAre("pix", "pxb", "phb", "sys", "far"));

  facts.cards = {{"phb", PathClass::Phb}, {"far", {}}};
  const Direct chosen = choose_direct(facts, settings());
  EXPECT_THAT(chosen.cards, ElementsAre("phb", "far"));
  EXPECT_THAT(chosen.gpu.not_in, AllOf(HasSubstr("phb (PHB), far (not known)"), HasSubstr("TUTTI_GPU_DIRECT=auto")));
  EXPECT_EQ(chosen.gpu.not_out, chosen.gpu.not_in);
}

// Whom they lead to could otherwise not be reached.
TEST(GpuDirect, NoNetworkIsGivenUpForIt) {
  DirectFacts facts = good();
  facts.cards = {{"near", PathClass::Pix, {"a"}}, {"far", PathClass::Sys, {"a"}}};
  EXPECT_THAT(choose_direct(facts, settings()).cards, ElementsAre("near"));
  facts.cards[1].networks.insert("b");
  const Direct chosen = choose_direct(facts, settings());
  EXPECT_THAT(chosen.cards, ElementsAre("near", "far"));
  EXPECT_THAT(chosen.gpu.not_in, HasSubstr("far alone has ports of some network"));
  EXPECT_EQ(chosen.gpu.not_out, chosen.gpu.not_in);
}

TEST(GpuDirect, WaysThatThereAreNotHaveReasons) {
  DirectFacts facts = good();
  facts.device.dma_buf = false;
  Direct chosen = choose_direct(facts, settings());
  EXPECT_THAT(chosen.gpu.no_dma_buf, HasSubstr("open kernel modules"));
  EXPECT_THAT(chosen.gpu.not_in, IsEmpty());
  facts.peermem_loaded = false;
  chosen = choose_direct(facts, settings());
  EXPECT_THAT(chosen.gpu.no_peer_memory, HasSubstr("nvidia_peermem is not loaded"));
  EXPECT_THAT(chosen.gpu.not_in, AllOf(HasSubstr("open kernel modules"), HasSubstr("nvidia_peermem is not loaded")));
  // In a container its module may be out of sight.
  EXPECT_THAT(choose_direct(facts, settings({{"TUTTI_GPU_DIRECT_PEERMEM", "1"}})).gpu.no_peer_memory, IsEmpty());
  facts = good();
  EXPECT_EQ(choose_direct(facts, settings({{"TUTTI_GPU_DIRECT_PEERMEM", "0"}})).gpu.no_peer_memory,
            "TUTTI_GPU_DIRECT_PEERMEM=0");
  EXPECT_EQ(choose_direct(facts, settings({{"TUTTI_GPU_DIRECT_DMABUF", "0"}})).gpu.no_dma_buf,
            "TUTTI_GPU_DIRECT_DMABUF=0");
  EXPECT_EQ(choose_direct(facts, settings({{"TUTTI_GPU_DIRECT", "off"}})).gpu.not_in, "TUTTI_GPU_DIRECT=off");
  facts.device.peer_memory = false;
  EXPECT_THAT(choose_direct(facts, settings()).gpu.no_peer_memory, HasSubstr("does not support"));
}

TEST(GpuDirect, WritesThatAreSeenLateAreFlushedOrStaged) {
  DirectFacts facts = good();
  facts.device.ordered = false;
  Direct chosen = choose_direct(facts, settings());
  EXPECT_TRUE(chosen.gpu.flush);
  EXPECT_THAT(chosen.gpu.not_in, IsEmpty());
  facts.device.flushes = false;
  chosen = choose_direct(facts, settings());
  EXPECT_THAT(chosen.gpu.not_in, HasSubstr("cannot flush"));
  EXPECT_THAT(chosen.gpu.not_out, IsEmpty()) << "what is only read needs no flush";
}

TEST(GpuDirect, OldGpusAreWrittenAndNotRead) {
  DirectFacts facts = good();
  facts.device.capability_major = 7;
  EXPECT_THAT(choose_direct(facts, settings()).gpu.not_out, HasSubstr("older than Ampere"));
  EXPECT_THAT(choose_direct(facts, settings()).gpu.not_in, IsEmpty());
  EXPECT_THAT(choose_direct(facts, settings({{"TUTTI_GPU_DIRECT_READ", "1"}})).gpu.not_out, IsEmpty());
  EXPECT_EQ(choose_direct(good(), settings({{"TUTTI_GPU_DIRECT_READ", "0"}})).gpu.not_out, "TUTTI_GPU_DIRECT_READ=0");
}

TEST(GpuDirect, TheModuleIsFoundUnderItsNames) {
  for (const char* module : {"nvidia_peermem", "nv_peer_mem"}) {
    fakes::Tree tree;
    EXPECT_FALSE(peermem_loaded(topology::SystemRoot(tree.root())));
    tree.directory(std::string("/sys/module/") + module);
    EXPECT_TRUE(peermem_loaded(topology::SystemRoot(tree.root())));
  }
}

TEST(GpuDirect, DistancesAreThoseOfTheTopology) {
  const Result<topology::Graph> machine = topology::read_topology(kDirectMachine, "the test");
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  const auto of = [&](const char* bus_id) {
    std::vector<DirectFacts::Card> cards = {{"fake0"}, {"fake1"}, {"fake2"}, {"fake3"}};
    find_distances(*machine, bus_id, cards);
    std::vector<std::string> found;
    for (const DirectFacts::Card& card : cards)
      found.emplace_back(card.distance ? topology::to_string(*card.distance) : "?");
    return found;
  };
  EXPECT_THAT(of("0000:01:00.0"), ElementsAre("PIX", "PHB", "SYS", "?"));
  EXPECT_THAT(of("0000:99:00.0"), ElementsAre("?", "?", "?", "?"));
}

// --- the memory ---

TEST(GpuDirect, MemoryForCardsIsOfWholePagesAndFlushesAreOfItsContext) {
  const int before = gpu::alive();
  {
    const gpu::CudaDevicePtr device = gpu::device();
    const gpu::NicFacts facts = gpu::nic_facts(*device);
    EXPECT_TRUE(facts.dma_buf && facts.peer_memory && facts.ordered && facts.flushes);
    EXPECT_EQ(facts.capability_major, 9);
    EXPECT_EQ(gpu::bus_id(*device), "0000:01:00.0");
    auto memory = gpu::NicMemory::create(device, 5000);
    ASSERT_TRUE(memory.ok()) << memory.status().message();
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    EXPECT_EQ(memory->address() % page, 0u);
    EXPECT_EQ(memory->size(), (5000 + page - 1) / page * page);
    // What comes by the descriptor is the memory.
    Result<UniqueFd> descriptor = memory->dma_buf();
    ASSERT_TRUE(descriptor.ok()) << descriptor.status().message();
    gpu::bytes_at(memory->address())[17] = 42;
    const off_t begin = ::lseek(descriptor->get(), 0, SEEK_CUR);
    char seen = 0;
    EXPECT_EQ(::pread(descriptor->get(), &seen, 1, begin + 17), 1);
    EXPECT_EQ(seen, 42);
    const int flushed = gpu::flushes();
    EXPECT_TRUE(gpu::flush_card_writes(device).ok());
    EXPECT_EQ(gpu::flushes(), flushed + 1);
    gpu::fail("cuMemGetHandleForAddressRange", 1, gpu::kCudaNotSupported);
    EXPECT_THAT(memory->dma_buf().status().message(), HasSubstr("cuMemGetHandleForAddressRange"));
    // Then the slots have no descriptor, and say why.
    gpu::fail("cuMemGetHandleForAddressRange", 1, gpu::kCudaNotSupported);
    const auto slots = make_gpu_slots(device, 4096);
    ASSERT_TRUE(slots.ok()) << slots.status().message();
    EXPECT_THAT((*slots)->dma_buf().status().message(), HasSubstr("CUDA_ERROR_NOT_SUPPORTED"));
    gpu::fail("cuMemAlloc_v2", 1, gpu::kCudaOutOfMemory);
    EXPECT_THAT(make_gpu_slots(device, 4096).status().message(), HasSubstr("CUDA_ERROR_OUT_OF_MEMORY"));
  }
  EXPECT_EQ(gpu::alive(), before);
}

}  // namespace
}  // namespace tutti
