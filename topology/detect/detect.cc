// SPDX-License-Identifier: Apache-2.0
// See detect.h.
#include "topology/detect/detect.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/env.h"
#include "topology/detect/assemble.h"
#include "topology/detect/hwloc_source.h"

namespace tutti::topology {
namespace {

class Detector {
 public:
  explicit Detector(const DetectOptions& options) : options_(options), root_(options.root) {}

  Result<Detection> run() {
    TUTTI_ASSIGN_OR_RETURN(in_.gpu_class, class_digits(options_.gpu_class));
    timed("sysfs", [&] {
      in_.host = root_.text("/proc/sys/kernel/hostname").value_or("this host");
      in_.machine = read_virtual_machine(root_);
      in_.cpus = read_cpus(root_);
      in_.pci = read_pci(root_);
    });
    timed("hwloc", [&] { ask_hwloc(); });
    if (in_.pci.empty())
      note("sysfs",
           "the kernel shows no PCI devices (a container without /sys, or a hypervisor with a bus of its own)");
    timed("net", [&] { in_.interfaces = read_interfaces(root_); });
    timed("rdma", [&] { ask_rdma(); });
    timed("nvml", [&] { ask_nvml(); });
    timed("cuda", [&] { ask_cuda(); });
    timed("graph", [&] { out_.graph = assemble(in_, out_.notes); });
    return std::move(out_);
  }

 private:
  static Result<std::string> class_digits(std::string_view text) {
    std::string digits;
    std::string_view rest = text;
    if (rest.starts_with("0x") || rest.starts_with("0X")) rest.remove_prefix(2);
    for (const char c : rest) {
      const char lower = c >= 'A' && c <= 'F' ? static_cast<char>(c | 0x20) : c;
      if (!((lower >= '0' && lower <= '9') || (lower >= 'a' && lower <= 'f')) || digits.size() == 6)
        return invalid_argument(
            "'{}' is no PCI class: write its first hexadecimal digits, e.g. 0x0302 (3D controllers) or 0x03", text);
      digits += lower;
    }
    if (digits.size() == 1)
      return invalid_argument("'{}' is no PCI class: write at least two hexadecimal digits, e.g. 0x03", text);
    return digits;
  }

  template <class Work>
  void timed(const char* source, const Work& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    out_.timings.push_back({source, took.count()});
  }
  void note(const char* source, std::string text) { out_.notes.push_back({source, std::move(text)}); }
  // A recording says nothing of the libraries of the machine it is read on.
  bool ask(bool wanted, const std::string& library) const { return wanted && (root_.live() || !library.empty()); }

  void ask_hwloc() {
    if (!options_.hwloc) return;
    if (!root_.live()) return note("hwloc", "not asked: a recorded tree is read through sysfs alone");
    const auto view = read_hwloc(options_.hwloc_library);
    if (!view.ok()) return note("hwloc", view.status().message() + "; processors are read from sysfs instead");
    complete_from_hwloc(in_.cpus, *view);
    if (in_.pci.empty()) in_.pci = view->pci;
  }

  void ask_rdma() {
    in_.rdma = read_rdma(root_);
    if (!ask(options_.verbs, options_.verbs_library)) return;
    if (in_.rdma.empty() && options_.verbs_library.empty()) return note("verbs", "the kernel has no RDMA devices");
    std::vector<std::string> notes;
    const auto opened = verbs::read_devices(options_.verbs_library, notes);
    if (!opened.ok()) return note("verbs", opened.status().message() + "; RDMA devices are shown, but cannot be used");
    for (std::string& text : notes) note("verbs", std::move(text));
    complete_from_verbs(in_.rdma, *opened);
  }

  void ask_nvml() {
    if (!ask(options_.nvml, options_.nvml_library)) return;
    const auto nvml = gpu::Nvml::open(options_.nvml_library);
    if (!nvml.ok()) return note("nvml", nvml.status().message());
    std::vector<std::string> notes;
    auto devices = nvml->devices(notes);
    for (std::string& text : notes) note("nvml", std::move(text));
    if (!devices.ok()) return note("nvml", devices.status().message());
    in_.peers = nvml->peers(*devices);
    in_.gpus = std::move(*devices);
  }

  void ask_cuda() {
    const bool wanted = options_.cuda == AskCuda::Always || (options_.cuda == AskCuda::WithoutNvml && !in_.gpus);
    if (!ask(wanted, options_.cuda_library)) return;
    // Without an NVIDIA device there is nothing to ask, and the driver takes its time to say so.
    const bool any = in_.gpus || !options_.cuda_library.empty() ||
                     std::ranges::any_of(in_.pci, [](const PciEntry& entry) { return entry.vendor == 0x10de; });
    if (!any) return;
    auto machine = gpu::read_cuda_machine(options_.cuda_library);
    if (!machine.ok()) return note("cuda", machine.status().message());
    in_.cuda = std::move(*machine);
  }

  const DetectOptions& options_;
  const SystemRoot root_;
  Sources in_;
  Detection out_;
};

}  // namespace

DetectOptions DetectOptions::from_environment() {
  DetectOptions options;
  options.gpu_class = env().gpu_class;
  options.hwloc_library = env().hwloc_library;
  options.nvml_library = env().nvml_library;
  options.cuda_library = env().cuda_library;
  options.verbs_library = env().verbs_library;
  return options;
}

Result<Detection> detect(const DetectOptions& options) { return Detector(options).run(); }

}  // namespace tutti::topology
