// SPDX-License-Identifier: Apache-2.0
// Conformance: every collective against the independent reference, through the public API alone.
//
//   conformance                        the sample: all pairs of values of all dimensions
//   conformance --shard I/K            every K-th world of the sample, from the I-th on
//   conformance --hosts 2|3            hierarchical algorithms on so many hosts
//   conformance --full --n N --transport shm|inproc|tcp|two-hosts|three-hosts    the product, for this n and transport
//   conformance --world W --case C     one case, as a failure names it
//   conformance --rdma LIBRARY ...     only worlds of tcp, over rdma instead, with this libibverbs (before --transport)
//   conformance --cuda LIBRARY --devices D ...   only worlds in one process, on D CUDA devices of this driver in turn
//                                      (--n N: only those of N ranks)
//   conformance --cuda LIBRARY --devices D --processes ...   only worlds of processes, their ranks on these in turn
//                                      (--transport tcp: connected by tcp alone, as if each was on a host of its own)
//   conformance --cuda LIBRARY --devices D --hosts 2|3 ...   the worlds of so many hosts, their ranks on these in turn
//   conformance --cuda LIBRARY --devices D --mixed ...       each of these with every third rank on the CPU
//                                      (the last three: worlds of at most D processes)
//   conformance --windows [--processes] ...   worlds with windows, with every kind of schedule of remote access; with
//                                      --cuda on GPUs. --algo NAME: with this one alone; also of --world
//   conformance --on-hosts R           the sample's worlds of processes over TCP, spread over the hosts in HOSTS
//                                      (tools/hosts), with R ranks on each: shared memory on a host, TCP between
//                                      (with --cuda and the rest: on GPUs)
//   conformance --large elements|bytes one call above 2^31 elements, or 2^32 bytes (ends with 77 where memory is short)
//   --seed S  --cases C (per world)  --stall S (seconds without movement)  --list
//
// Worlds run one after the other, each in fresh processes, because the environment is read once per process. Ends with
// the number of worlds and cases, and the time.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "cases.h"
#include "gpus.h"
#include "launcher.h"
#include "runner.h"

namespace conformance {
namespace {

constexpr int kSkipped = 77;
constexpr int kMostFailures = 5;  // of one rank, before it stops telling

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void report(const World& world, const Case& one, int rank, const std::string& wrong) {
  std::string line = "FAILED " + describe(world) + ": " + describe(world, one) + ", rank " + std::to_string(rank) +
                     ": " + wrong + "\n       again: --world " + key(world) + " --case " + key(one) + "\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}
void report(const World& world, int rank, const char* call, tuttiResult_t code) {
  std::string line = "FAILED " + describe(world) + ", rank " + std::to_string(rank) + ": " + call + " returned " +
                     std::to_string(code) + " (" + tuttiGetErrorString(code) + "): " + tuttiGetLastError(nullptr) +
                     "\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

// The ranks that one thread drives: one, or all of them in groups.
class Driver {
 public:
  Driver(const World& world, launcher::Page& page, std::vector<int> ranks)
      : world_(world), page_(page), ranks_(std::move(ranks)) {}

  // 0: all right. 1: wrong values. 2: a call failed, and the ranks can no longer go on together.
  int run(const std::vector<Case>& cases) {
    if (const int joined = join(); joined != 0) return joined;
    if (world_.proto == kWindows) {
      if (const int made = gpus::used() ? 0 : allocate_windows(); made != 0) return made;
      if (const int opened = open_windows(); opened != 0) return opened;
    }
    std::vector<Runner> runners;
    for (size_t i = 0; i < ranks_.size(); ++i)
      runners.emplace_back(
          world_, ranks_[i], comms_[i], streams_[i], page_,
          copies_.empty() ? (memory_.empty() ? nullptr : static_cast<unsigned char*>(memory_[i])) : copies_[i].get(),
          copies_.empty() ? nullptr : static_cast<unsigned char*>(memory_[i]));
    int status = 0, failures = 0;
    for (size_t c = 0; c < cases.size(); ++c) {
      for (const int rank : ranks_) page_.member[rank].at.store(c + 1, std::memory_order_relaxed);
      const int outcome = run_case(runners, cases[c], failures);
      status = std::max(status, outcome);
      if (outcome == 2) return 2;
    }
    const int left = leave();
    return std::max(status, left);
  }

 private:
  int join() {
    comms_.resize(ranks_.size());
    streams_.resize(ranks_.size());
    tuttiResult_t code = TUTTI_SUCCESS;
    if (world_.mode == kOneThread) {
      std::vector<int> devices;
      for (const int rank : ranks_) devices.push_back(gpus::device_of(rank));
      code = tuttiCommInitAll(comms_.data(), world_.n, devices.data());
      if (code != TUTTI_SUCCESS) return report(world_, 0, "tuttiCommInitAll", code), 2;
    } else {
      if (ranks_[0] == 0) {
        tuttiUniqueId made;
        code = tuttiGetUniqueId(&made);
        if (code != TUTTI_SUCCESS) return report(world_, 0, "tuttiGetUniqueId", code), 2;
        page_.publish(made);
      }
      tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
      config.device = gpus::device_of(ranks_[0]);
      code = tuttiCommInitRankConfig(&comms_[0], world_.n, page_.await(), ranks_[0], &config);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[0], "tuttiCommInitRankConfig", code), 2;
    }
    if (gpus::used()) memory_.resize(ranks_.size());
    for (size_t i = 0; i < ranks_.size(); ++i) {
      if (gpus::used_by(ranks_[i])) {
        const bool windows = world_.proto == kWindows;
        streams_[i] = gpus::make_stream(ranks_[i]);
        memory_[i] =
            windows ? gpus::allocate_on_gpu(ranks_[i], 2 * kWindowBytes) : gpus::allocate(ranks_[i], kWindowBytes);
        if (windows) copies_.emplace_back(new unsigned char[2 * kWindowBytes]);
        if (streams_[i] == nullptr || memory_[i] == nullptr)
          return report(world_, ranks_[i], "the CUDA driver", TUTTI_CUDA_ERROR), 2;
        continue;
      }
      code = tuttiStreamCreate(&streams_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiStreamCreate", code), 2;
    }
    return 0;
  }

  int leave_gpus() {
    for (size_t i = 0; i < windows_.size(); ++i) {
      const tuttiResult_t code = tuttiCommWindowDeregister(comms_[i], windows_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiCommWindowDeregister", code), 2;
    }
    for (size_t i = 0; i < ranks_.size(); ++i) {
      const tuttiResult_t code = tuttiCommDestroy(comms_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiCommDestroy", code), 2;
      if (!gpus::used_by(ranks_[i])) {
        tuttiStreamDestroy(streams_[i]);
        continue;
      }
      gpus::destroy_stream(ranks_[i], streams_[i]);
      gpus::release(ranks_[i], memory_[i]);
    }
    return 0;
  }

  int allocate_windows() {
    memory_.resize(ranks_.size());
    for (void*& memory : memory_) {
      if (const tuttiResult_t code = tuttiMemAlloc(&memory, kWindowBytes); code != TUTTI_SUCCESS)
        return report(world_, ranks_[0], "tuttiMemAlloc", code), 2;
    }
    return 0;
  }

  int open_windows() {
    windows_.resize(ranks_.size());
    tuttiGroupStart();
    for (size_t i = 0; i < ranks_.size(); ++i)
      tuttiCommWindowRegister(comms_[i], memory_[i], kWindowBytes, &windows_[i], 0);
    if (const tuttiResult_t code = tuttiGroupEnd(); code != TUTTI_SUCCESS)
      return report(world_, ranks_[0], "tuttiCommWindowRegister", code), 2;
    return 0;
  }

  int leave() {
    if (gpus::used()) return leave_gpus();
    for (size_t i = 0; i < memory_.size(); ++i) {
      tuttiResult_t code = tuttiCommWindowDeregister(comms_[i], windows_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiCommWindowDeregister", code), 2;
      code = tuttiMemFree(memory_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiMemFree", code), 2;
    }
    for (size_t i = 0; i < ranks_.size(); ++i) {
      tuttiResult_t code = tuttiStreamDestroy(streams_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiStreamDestroy", code), 2;
      code = tuttiCommDestroy(comms_[i]);
      if (code != TUTTI_SUCCESS) return report(world_, ranks_[i], "tuttiCommDestroy", code), 2;
    }
    return 0;
  }

  int run_case(std::vector<Runner>& runners, const Case& one, int& failures) {
    const bool grouped = runners.size() > 1;
    for (size_t i = 0; i < runners.size(); ++i)
      if (const std::string wrong = runners[i].prepare(one); !wrong.empty())
        return report(world_, one, ranks_[i], wrong), 2;
    if (grouped) tuttiGroupStart();
    std::string wrong;
    for (size_t i = 0; i < runners.size() && wrong.empty(); ++i) wrong = runners[i].issue();
    if (grouped) {
      const tuttiResult_t code = tuttiGroupEnd();
      if (code != TUTTI_SUCCESS && wrong.empty()) wrong = std::string("tuttiGroupEnd: ") + tuttiGetLastError(nullptr);
    }
    for (size_t i = 0; i < runners.size() && wrong.empty(); ++i) wrong = runners[i].synchronize();
    if (!wrong.empty()) return report(world_, one, ranks_[0], wrong), 2;
    int status = 0;
    for (size_t i = 0; i < runners.size(); ++i) {
      wrong = runners[i].check();
      if (wrong.empty()) continue;
      status = 1;
      if (failures++ < kMostFailures) report(world_, one, ranks_[i], wrong);
    }
    return status;
  }

  const World world_;
  launcher::Page& page_;
  const std::vector<int> ranks_;
  std::vector<tuttiComm_t> comms_;
  std::vector<tuttiStream_t> streams_;
  std::vector<void*> memory_;                             // of windows; on GPUs, of all buffers
  std::vector<std::unique_ptr<unsigned char[]>> copies_;  // the host's, of memory of GPUs that it cannot see
  std::vector<tuttiWindow_t> windows_;
};

// Network namespaces, by tools/hosts.
std::vector<std::string> hosts_of_environment() {
  std::vector<std::string> hosts;
  std::istringstream list(std::getenv("HOSTS") != nullptr ? std::getenv("HOSTS") : "");
  for (std::string name; list >> name;) hosts.push_back(name);
  return hosts;
}
void enter_host(const std::string& name) {
  const int fd = open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
    std::perror(name.c_str());
    std::exit(2);
  }
  close(fd);
}

void set_environment(const Batch& batch, int index) {
  const World& world = batch.world;
  const std::string host = host_id(world, index);
  if (!host.empty()) setenv("TUTTI_HOST_ID", host.c_str(), 1);
  const char* const alone = host.empty() ? transport_name(world.transport) : "auto";
  setenv("TUTTI_TRANSPORTS", batch.hosts.empty() ? alone : "shm,tcp", 1);
  setenv("TUTTI_ALGO", batch.algorithms.empty() ? algorithm_setting(world).c_str() : batch.algorithms.c_str(), 1);
  const char* const proto = kProtoNames[world.proto == kWindows ? static_cast<int>(kRma) : world.proto];
  // GPUs have lines of two lengths; where they do not see the long ones whole the planner does without.
  const bool long_lines = gpus::used() && world.proto == kLL && world.n % 2 == 0;
  // The fake's fibers take ten times as long for them: only where they are asked for.
  const bool spares_them = gpus::fake() && world.proto == kAnyProto;
  setenv("TUTTI_PROTO", long_lines ? "ll128" : spares_them ? "^ll128" : proto, 1);
}

// Body of one process of a world.
int run_process(const Batch& batch, launcher::Page& page, int index) {
  const World& world = batch.world;
  if (!batch.hosts.empty())
    enter_host(batch.hosts[static_cast<size_t>(index) * batch.hosts.size() / static_cast<size_t>(world.n)]);
  set_environment(batch, index);
  if (world.mode == kProcesses) return Driver(world, page, {index}).run(batch.cases);
  std::vector<int> ranks;
  for (int r = 0; r < world.n; ++r) ranks.push_back(r);
  if (world.mode == kOneThread) return Driver(world, page, ranks).run(batch.cases);
  std::vector<int> status(ranks.size());
  std::vector<std::thread> threads;
  for (const int rank : ranks)
    threads.emplace_back([&, rank] {
      status[static_cast<size_t>(rank)] = Driver(world, page, {rank}).run(batch.cases);
      if (status[static_cast<size_t>(rank)] == 2) std::_Exit(2);  // the others would wait for us
    });
  for (std::thread& thread : threads) thread.join();
  return *std::max_element(status.begin(), status.end());
}

bool run_world(const Batch& batch, double stall_seconds) {
  const launcher::SharedPage page;
  const int processes = batch.world.mode == kProcesses ? batch.world.n : 1;
  const auto on_stall = [&] {
    std::fprintf(stderr, "STALLED %s\n", describe(batch.world).c_str());
    for (int r = 0; r < batch.world.n; ++r) {
      const uint64_t at = page->member[r].at.load();
      if (at == 0) std::fprintf(stderr, "       rank %d is joining\n", r);
      if (at == 0 || at > batch.cases.size()) continue;
      const Case& one = batch.cases[at - 1];
      std::fprintf(stderr, "       rank %d is in case %llu of %zu: %s (--world %s --case %s)\n", r,
                   static_cast<unsigned long long>(at), batch.cases.size(), describe(batch.world, one).c_str(),
                   key(batch.world).c_str(), key(one).c_str());
    }
  };
  const launcher::Outcome outcome = launcher::run(
      processes, *page, stall_seconds, [&](int index) { return run_process(batch, *page, index); }, on_stall);
  if (!outcome.ok)
    std::fprintf(stderr, "FAILED %s%s%s: %s\n", describe(batch.world).c_str(),
                 batch.algorithms.empty() ? "" : " --algo ", batch.algorithms.c_str(), outcome.text.c_str());
  return outcome.ok;
}

size_t available_bytes() {
  std::ifstream info("/proc/meminfo");
  std::string word;
  size_t kib = 0;
  while (info >> word)
    if (word == "MemAvailable:" && info >> kib) return kib * 1024;
  return 0;
}

// AllReduce of more than 2^31 int8, in place; AllGather of more than 2^32 bytes. Two ranks, as threads.
int run_large(bool elements, double stall_seconds) {
  const size_t count = elements ? (size_t{1} << 31) + 4099 : (size_t{1} << 28) + 515;  // int8; int64 of one rank
  const size_t bytes_per_rank = elements ? count : 2 * count * 8;
  const size_t needed = 2 * bytes_per_rank + (size_t{1} << 30);
  if (available_bytes() < needed) {
    std::printf("skipped: %.1f GB of memory are available, %.1f GB are needed\n",
                static_cast<double>(available_bytes()) / 1e9, static_cast<double>(needed) / 1e9);
    return kSkipped;
  }
  const launcher::SharedPage page;
  const auto rank_body = [&](int rank) -> int {
    const World world{2, kThreads, kInproc, 0, 0};
    if (rank == 0) {
      tuttiUniqueId made;
      if (const tuttiResult_t code = tuttiGetUniqueId(&made)) return report(world, rank, "tuttiGetUniqueId", code), 2;
      page->publish(made);
    }
    tuttiComm_t comm = nullptr;
    if (const tuttiResult_t code = tuttiCommInitRank(&comm, 2, page->await(), rank))
      return report(world, rank, "tuttiCommInitRank", code), 2;
    int status = 0;
    const auto fail = [&](size_t index) {
      std::fprintf(stderr, "FAILED rank %d: element %zu is wrong\n", rank, index);
      status = 1;
    };
    const auto moved = [&] { page->member[rank].at.fetch_add(1); };
    if (elements) {
      std::vector<int8_t> data(count);
      // Two multiples of a golden number of the position, so that a shift of any size shows.
      const auto value = [](size_t i, int r) {
        return static_cast<int8_t>((i * 0x9E3779B1u >> 13) * static_cast<size_t>(r + 1));
      };
      for (size_t i = 0; i < count; ++i) data[i] = value(i, rank);
      moved();
      const tuttiResult_t code = tuttiAllReduce(data.data(), data.data(), count, TUTTI_INT8, TUTTI_SUM, comm, nullptr);
      if (code != TUTTI_SUCCESS) return report(world, rank, "tuttiAllReduce", code), 2;
      moved();
      for (size_t i = 0; i < count && status == 0; ++i)
        if (data[i] != static_cast<int8_t>(value(i, 0) + value(i, 1))) fail(i);
    } else {
      std::vector<uint64_t> data(2 * count);
      const auto value = [](size_t i, size_t r) { return (i + 1) * (r + 3) * 0x9E3779B97F4A7C15u; };
      const size_t mine = static_cast<size_t>(rank) * count;
      for (size_t i = 0; i < count; ++i) data[mine + i] = value(i, static_cast<size_t>(rank));
      moved();
      const tuttiResult_t code = tuttiAllGather(&data[mine], data.data(), count, TUTTI_UINT64, comm, nullptr);
      if (code != TUTTI_SUCCESS) return report(world, rank, "tuttiAllGather", code), 2;
      moved();
      for (size_t i = 0; i < 2 * count && status == 0; ++i)
        if (data[i] != value(i % count, i / count)) fail(i);
    }
    if (const tuttiResult_t code = tuttiCommDestroy(comm)) return report(world, rank, "tuttiCommDestroy", code), 2;
    return status;
  };
  const auto start = std::chrono::steady_clock::now();
  const launcher::Outcome outcome = launcher::run(1, *page, stall_seconds, [&](int) {
    int status[2] = {};
    std::thread other([&] {
      status[1] = rank_body(1);
      if (status[1] == 2) std::_Exit(2);
    });
    status[0] = rank_body(0);
    if (status[0] == 2) std::_Exit(2);
    other.join();
    return std::max(status[0], status[1]);
  });
  if (!outcome.ok) std::fprintf(stderr, "FAILED: %s\n", outcome.text.c_str());
  std::printf("%s of %zu elements: %s in %.1f s\n", elements ? "AllReduce int8" : "AllGather uint64", count,
              outcome.ok ? "right" : "WRONG", seconds_since(start));
  return outcome.ok ? 0 : 1;
}

int usage(const char* program) {
  std::fprintf(stderr,
               "usage: %s [--rdma LIBRARY] [--seed S] [--cases C] [--shard I/K] [--stall SECONDS] [--list]\n"
               "       %s --hosts 2|3\n"
               "       %s [--rdma LIBRARY] --full --n N --transport shm|inproc|tcp|rdma|two-hosts|three-hosts\n"
               "       %s --on-hosts RANKS_PER_HOST\n"
               "       %s --world W --case C\n"
               "       %s --large elements|bytes\n"
               "       %s --cuda LIBRARY --devices D [--processes [--transport tcp]] [--hosts 2|3] [--mixed] [--n N] "
               "[--seed S] [--cases C] [--shard I/K]\n"
               "       %s [--cuda LIBRARY --devices D] --windows [--processes] [--algo NAME] [--seed S] [--cases C]\n",
               program, program, program, program, program, program, program, program);
  return 2;
}

int run(int argc, char** argv) {
  uint64_t seed = 1;
  size_t cases = 200, shard = 0, shards = 1;
  double stall = 60;
  int n = 0, transport = -1, hosts = 0, on_hosts = 0, devices = 1;
  bool full = false, list = false, rdma = false, processes = false, mixed = false, windows = false;
  std::string world_text, case_text, large, cuda, algorithms;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--full")
      full = true;
    else if (option == "--list")
      list = true;
    else if (option == "--windows")
      windows = true;
    else if (option == "--processes")
      processes = true;
    else if (option == "--mixed")
      mixed = true;
    else if (i + 1 == argc)
      return usage(argv[0]);
    else if (option == "--rdma") {
      rdma = true;
      take_rdma_for_tcp();
      setenv("TUTTI_VERBS_LIBRARY", argv[++i], 1);
    } else if (option == "--cuda")
      cuda = argv[++i];
    else if (option == "--devices")
      devices = std::max(std::atoi(argv[++i]), 1);
    else if (option == "--seed")
      seed = std::strtoull(argv[++i], nullptr, 10);
    else if (option == "--cases")
      cases = std::strtoull(argv[++i], nullptr, 10);
    else if (option == "--algo")
      algorithms = argv[++i];
    else if (option == "--stall")
      stall = std::atof(argv[++i]);
    else if (option == "--shard" && std::sscanf(argv[++i], "%zu/%zu", &shard, &shards) == 2 && shard < shards)
      continue;
    else if (option == "--hosts")
      hosts = std::atoi(argv[++i]);
    else if (option == "--n")
      n = std::atoi(argv[++i]);
    else if (option == "--on-hosts")
      on_hosts = std::atoi(argv[++i]);
    else if (option == "--world")
      world_text = argv[++i];
    else if (option == "--case")
      case_text = argv[++i];
    else if (option == "--large")
      large = argv[++i];
    else if (option == "--transport") {
      ++i;
      for (int t = 0; t < kTransports; ++t)
        if (std::strcmp(argv[i], transport_name(t)) == 0) transport = t;
      if (transport < 0) return usage(argv[0]);
    } else
      return usage(argv[0]);
  }

  if (!cuda.empty()) gpus::use(cuda, devices, mixed);
  if (!large.empty())
    return large == "elements" || large == "bytes" ? run_large(large == "elements", stall) : usage(argv[0]);
  if (!world_text.empty() || !case_text.empty()) {
    Batch batch{{}, {Case{}}};
    batch.algorithms = algorithms;
    if (!parse(world_text, batch.world) || !parse(case_text, batch.cases[0])) return usage(argv[0]);
    std::printf("%s: %s\n", describe(batch.world).c_str(), describe(batch.world, batch.cases[0]).c_str());
    return run_world(batch, stall) ? 0 : 1;
  }

  const auto start = std::chrono::steady_clock::now();
  size_t worlds = 0, calls = 0, failed = 0;
  const auto try_batch = [&](const Batch& batch) {
    ++worlds, calls += batch.cases.size();
    if (list) {
      std::printf("%4zu cases  %s\n", batch.cases.size(), describe(batch.world).c_str());
    } else if (!run_world(batch, stall)) {
      ++failed;
    }
  };
  // Processes share a GPU only where all ranks are on GPUs of one host. Always true where no GPUs are asked for.
  const bool alone = hosts != 0 || on_hosts > 0 || mixed || transport == kTcp;
  const auto on_gpus = [&](const World& world) {
    if (!gpus::used()) return true;
    if (alone && world.mode == kProcesses && world.n > devices) return false;
    return world.proto != kRma && world.proto != kWindows;
  };
  if (windows) {
    for (const Batch& batch : windows_sample(seed, processes, cases))
      if ((n == 0 || batch.world.n == n) && (algorithms.empty() || batch.algorithms == algorithms)) try_batch(batch);
  } else if (hosts != 0) {
    if (hosts != 2 && hosts != 3) return usage(argv[0]);
    for (const Batch& batch : hosts_sample(seed, hosts, cases)) {
      if (on_gpus(batch.world)) try_batch(batch);
    }
  } else if (full) {
    if (n < 1 || n > kMaxRanks || transport < 0) return usage(argv[0]);
    product(n, transport, try_batch);
  } else if (on_hosts > 0) {
    const std::vector<std::string> names = hosts_of_environment();
    const int ranks = static_cast<int>(names.size()) * on_hosts;
    if (ranks < 2 || ranks > kMaxRanks) {
      std::fprintf(stderr, "HOSTS names %zu hosts, with %d ranks each: 2 to %d ranks are needed\n", names.size(),
                   on_hosts, kMaxRanks);
      return 2;
    }
    for (Batch& batch : sample(seed, cases).batches) {
      if (batch.world.mode != kProcesses || batch.world.transport != kTcp || batch.world.n < 2) continue;
      batch.world.n = ranks;
      if (!on_gpus(batch.world)) continue;
      batch.hosts = names;
      try_batch(batch);
    }
    std::printf("%zu hosts, %d ranks on each\n", names.size(), on_hosts);
  } else {
    const Sample chosen = sample(seed, cases);
    const auto wanted = [&](const World& world) {
      if (!on_gpus(world)) return false;
      if (gpus::used() && processes)
        return world.mode == kProcesses && world.transport == (transport >= 0 ? transport : kShm);
      if (gpus::used()) return world.transport == kInproc;
      return !rdma || world.transport == kTcp;
    };
    for (size_t i = shard; i < chosen.batches.size(); i += shards)
      if (wanted(chosen.batches[i].world) && (n == 0 || chosen.batches[i].world.n == n)) try_batch(chosen.batches[i]);
    std::printf("sample with seed %llu: %zu pairs of values, in %zu worlds; shard %zu of %zu\n",
                static_cast<unsigned long long>(seed), chosen.pairs, chosen.batches.size(), shard, shards);
  }
  std::printf("%zu worlds, %zu cases, %zu worlds failed, %.1f s\n", worlds, calls, failed, seconds_since(start));
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace conformance

int main(int argc, char** argv) { return conformance::run(argc, argv); }
