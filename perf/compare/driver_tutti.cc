// SPDX-License-Identifier: Apache-2.0
//
// The driver of this library: public API only. Starts its own ranks. With --candidates each cell is measured on one
// communicator after the other, of which each is restricted to one algorithm and protocol: what disturbs a machine for
// longer than a cell takes disturbs them alike.
#include <set>

#include "perf/compare/harness.h"
#include "tutti/tutti.h"

namespace tutti::compare {
namespace {

class TuttiPeer : public OrdinaryPeer {
 public:
  TuttiPeer(Control& control, const Options& options) : windows_(options.windows) {
    const std::vector<std::string> one = {kAuto};
    for (const std::string& name : options.candidates.empty() ? one : options.candidates) {
      tuttiUniqueId id{};
      if (control.rank() == 0) require(control, tuttiGetUniqueId(&id), "tuttiGetUniqueId");
      std::vector<tuttiUniqueId> ids(control.ranks());
      control.all_gather(&id, ids.data(), sizeof id);
      tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
      const size_t slash = name.find('/');
      const std::string algorithm = name.substr(0, slash), protocol = name.substr(std::min(slash, name.size() - 1) + 1);
      if (name != kAuto) {
        config.algorithms = algorithm.c_str();
        config.protocols = protocol.c_str();
      }
      require(control, tuttiCommInitRankConfig(&comm_, control.ranks(), ids[0], control.rank(), &config),
              "tuttiCommInitRankConfig");
      candidates_.emplace_back(name, comm_);
    }
    for (const std::string& name : options.candidates) variants_ += (variants_.empty() ? "" : ",") + name;
    if (windows_ && candidates_.size() > 1) control.fail("windows belong to one communicator: no --candidates");
  }
  ~TuttiPeer() {
    for (const auto& [name, comm] : candidates_) tuttiCommDestroy(comm);
  }
  TuttiPeer(const TuttiPeer&) = delete;
  TuttiPeer& operator=(const TuttiPeer&) = delete;

  std::string version() {
    int code = 0;
    tuttiGetVersion(&code);
    char text[64];
    std::snprintf(text, sizeof text, "Tutti %d.%d.%d", code / 10000, code / 100 % 100, code % 100);
    return text;
  }

  std::string last_error() { return tuttiGetLastError(comm_); }
  std::string variants(const Problem&) { return variants_; }
  // A communicator's slots are touched for the first time during its first few hundred calls. Where one serves all
  // cells that is over soon; where each of many serves a small part it would be most of what is measured.
  int first_calls() { return warm_.insert(comm_).second && candidates_.size() > 1 ? 400 : 0; }

  float* allocate(size_t bytes) {
    if (!windows_) return allocate_ordinary(bytes);
    Window window{};
    if (tuttiMemAlloc(&window.memory, bytes) != TUTTI_SUCCESS) return nullptr;
    if (tuttiCommWindowRegister(comm_, window.memory, bytes, &window.handle, 0) != TUTTI_SUCCESS) {
      tuttiMemFree(window.memory);
      return nullptr;
    }
    registered_.push_back(window);
    return static_cast<float*>(window.memory);
  }
  void release(float* memory, size_t) {
    if (!windows_) return std::free(memory);
    std::erase_if(registered_, [&](const Window& window) {
      if (window.memory != memory) return false;
      tuttiCommWindowDeregister(comm_, window.handle);
      tuttiMemFree(window.memory);
      return true;
    });
  }

  template <class Run>
  std::string with_operation(Problem& p, const std::string& variant, float* send, float* recv, Run& run) {
    for (const auto& [name, comm] : candidates_) {
      if (name == variant) comm_ = comm;
    }
    const size_t whole = p.bytes / sizeof(float), chunk = p.chunk;
    const tuttiDataType_t type = TUTTI_FLOAT32;
    const tuttiComm_t comm = comm_;
    switch (p.collective) {
      case Collective::AllReduce:
        return run([=] { return tuttiAllReduce(send, recv, whole, type, TUTTI_SUM, comm, nullptr); });
      case Collective::AllGather:
        return run([=] { return tuttiAllGather(send, recv, chunk, type, comm, nullptr); });
      case Collective::ReduceScatter:
        return run([=] { return tuttiReduceScatter(send, recv, chunk, type, TUTTI_SUM, comm, nullptr); });
      case Collective::Broadcast:
        return run([=] { return tuttiBroadcast(recv, recv, whole, type, 0, comm, nullptr); });
      case Collective::AllToAll:
        return run([=] { return tuttiAllToAll(send, recv, chunk, type, comm, nullptr); });
      case Collective::Reduce:
        return run([=] { return tuttiReduce(send, recv, whole, type, TUTTI_SUM, 0, comm, nullptr); });
      case Collective::Gather:
        return run([=] { return tuttiGather(send, recv, chunk, type, 0, comm, nullptr); });
      case Collective::Scatter:
        return run([=] { return tuttiScatter(send, recv, chunk, type, 0, comm, nullptr); });
      case Collective::SendRecv:
        return run([=, next = p.next(), previous = p.previous()] {
          tuttiGroupStart();
          tuttiSend(send, whole, type, next, comm, nullptr);
          tuttiRecv(recv, whole, type, previous, comm, nullptr);
          return tuttiGroupEnd();
        });
    }
    return "unknown collective";
  }

 private:
  struct Window {
    void* memory;
    tuttiWindow_t handle;
  };

  static void require(Control& control, tuttiResult_t result, const char* call) {
    if (result != TUTTI_SUCCESS) control.fail(std::string(call) + ": " + tuttiGetLastError(nullptr));
  }

  static constexpr const char* kAuto = "auto";

  std::vector<std::pair<std::string, tuttiComm_t>> candidates_;
  std::string variants_;
  tuttiComm_t comm_ = nullptr;  // of what is measured
  std::set<tuttiComm_t> warm_;
  bool windows_;
  std::vector<Window> registered_;
};

}  // namespace
}  // namespace tutti::compare

int main(int argc, char** argv) {
  using namespace tutti::compare;
  const Options options = parse_options(argc, argv);
  return run_forked(options.ranks, options.pin, options.hosts, [&](Control& control) {
    TuttiPeer peer(control, options);
    run_cells(peer, control, options);
    return 0;
  });
}
