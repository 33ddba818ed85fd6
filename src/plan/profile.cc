// SPDX-License-Identifier: Apache-2.0
// Built-in profiles and the file format.
#include "plan/profile.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "algo/catalog.h"
#include "base/fnv.h"
#include "plan/profiles/built_in.h"

namespace tutti {
namespace {

// A 2-core guest of a Xeon (AVX-512, 2 MiB L2 per core, shared L3), measured 2026-11-20 with prototypes of the same
// layouts at other sizes (all-gather, input rewritten) and interpolated; not yet by `tutti tune`.
const Profile& xeon() {
  static const Profile& profile =
      *new Profile{"built-in: 2-core Xeon guest, 2026-11-20",
                   Curve({0.18, 0.54, 1.25, 5.0, 20.0, 80.0, 320.0, 1300.0, 5200.0, 21000.0}),
                   Curve({0.27, 0.82, 1.3, 3.2, 8.5, 33.0, 130.0, 540.0, 3300.0, 13700.0}),
                   Curve({1.1, 1.15, 1.3, 3.4, 9.5, 35.0, 130.0, 700.0, 3400.0, 22500.0}),
                   Curve({0.33, 0.6, 1.2, 3.0, 8.0, 30.0, 115.0, 560.0, 3500.0, 15500.0}),
                   Curve({0.33, 0.5, 0.8, 2.0, 4.5, 14.0, 55.0, 420.0, 2000.0, 8500.0}),
                   0.75,
                   60.0,
                   8 << 20,
                   {256 << 10, 128 << 10, 64 << 10},
                   Profile().cycled_bytes,
                   0,
                   {}};
  return profile;
}

constexpr const char* kCurveNames[] = {"ll", "slots", "kernel", "pull", "push"};
Curve Profile::*const kCurves[] = {&Profile::ll, &Profile::slots, &Profile::kernel, &Profile::pull, &Profile::push};
constexpr int kFormat = 2;
// More than any machine's catalog and sizes come to; a file of anything else is not read to its end.
constexpr size_t kMostTimed = 4096, kMostPoints = 64;

// A time between two measured points; both axes are logarithmic.
double between(double bytes, double bytes0, double us0, double bytes1, double us1) {
  return us0 * std::pow(us1 / us0, std::log(bytes / bytes0) / std::log(bytes1 / bytes0));
}

using nlohmann::json;
using nlohmann::ordered_json;

// What is wrong with a part of a file; parse_profile() says with which and what to do.
template <class... Args>
Status flaw(fmt::format_string<Args...> what, Args&&... args) {
  return Status(Code::InvalidArgument, fmt::format(what, std::forward<Args>(args)...));
}

Result<std::vector<double>> positive_numbers(const json& object, const char* key, size_t least, size_t most) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array() || found->size() < least || found->size() > most)
    return flaw("\"{}\" is not a list of {} numbers", key, least == most ? std::to_string(least) : "a few");
  std::vector<double> numbers;
  for (const json& one : *found) {
    if (!one.is_number()) return flaw("\"{}\" holds what is no number", key);
    numbers.push_back(one.get<double>());
    if (!std::isfinite(numbers.back()) || numbers.back() <= 0)
      return flaw("\"{}\" holds a value of {}", key, numbers.back());
  }
  return numbers;
}

Result<Timed> parse_timed(const json& row) {
  if (!row.is_object()) return flaw("\"timed\" holds what is no object");
  const auto text = [&](const char* key) {
    const auto found = row.find(key);
    return found != row.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  Timed timed;
  const Coll* coll = find_coll(text("collective"));
  const Algo* algo = find_algo(text("algorithm"));
  const Proto* proto = find_proto(text("protocol"));
  if (coll == nullptr || algo == nullptr || proto == nullptr)
    return flaw("\"timed\" has a row of {}, {}, {}, which is not known here", text("collective"), text("algorithm"),
                text("protocol"));
  timed.coll = *coll;
  timed.algo = *algo;
  timed.proto = *proto;
  const auto ranks = row.find("ranks");
  if (ranks == row.end() || !ranks->is_number_integer() || *ranks < 1 || *ranks > 1 << 20)
    return flaw("\"ranks\" is not a number of ranks");
  timed.ranks = ranks->get<int>();
  const auto windows = row.find("windows");
  if (windows != row.end() && !windows->is_boolean()) return flaw("\"windows\" is not true or false");
  timed.windows = windows != row.end() && windows->get<bool>();
  TUTTI_ASSIGN_OR_RETURN(timed.bytes, positive_numbers(row, "bytes", 1, kMostPoints));
  TUTTI_ASSIGN_OR_RETURN(timed.us, positive_numbers(row, "us", timed.bytes.size(), timed.bytes.size()));
  for (size_t i = 1; i < timed.bytes.size(); ++i) {
    if (timed.bytes[i] <= timed.bytes[i - 1]) return flaw("\"bytes\" do not rise");
  }
  return timed;
}

Result<std::vector<Timed>> parse_all_timed(const json& object) {
  const auto rows = object.find("timed");
  if (rows == object.end() || !rows->is_array() || rows->size() > kMostTimed) return flaw("\"timed\" is not a list");
  std::vector<Timed> all;
  for (const json& row : *rows) {
    TUTTI_ASSIGN_OR_RETURN(Timed timed, parse_timed(row));
    all.push_back(std::move(timed));
  }
  return all;
}
ordered_json format_all_timed(const std::vector<Timed>& all) {
  ordered_json rows = ordered_json::array();
  for (const Timed& one : all) {
    rows.push_back({{"collective", name(one.coll)},
                    {"algorithm", name(one.algo)},
                    {"protocol", name(one.proto)},
                    {"ranks", one.ranks},
                    {"windows", one.windows},
                    {"bytes", one.bytes},
                    {"us", one.us}});
  }
  return rows;
}

// -1: it is not there, or not a number of at least `least`.
double number_of(const json& object, const char* key, double least) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return -1;
  const double value = found->get<double>();
  return std::isfinite(value) && value >= least ? value : -1;
}

Result<GpuProfile::Latency> parse_latency(const json& gpu, const char* protocol) {
  const auto found = gpu.find(protocol);
  if (found == gpu.end() || !found->is_object()) return flaw("\"gpu\" has no \"{}\"", protocol);
  const GpuProfile::Latency latency = {number_of(*found, "launch_us", 0), number_of(*found, "hop_us", 0)};
  if (latency.launch_us < 0 || latency.hop_us < 0)
    return flaw("\"{}\" of \"gpu\" has no \"launch_us\" and \"hop_us\" of at least 0", protocol);
  return latency;
}

Result<GpuProfile> parse_gpu(const json& object) {
  GpuProfile gpu;
  const auto name = object.find("name");
  if (!object.is_object() || name == object.end() || !name->is_string() || name->get<std::string>().empty())
    return flaw("\"gpu\" has no \"name\"");
  gpu.gpu = name->get<std::string>();
  const double gpus = number_of(object, "gpus", 1);
  if (gpus < 1 || gpus > 1 << 20) return flaw("\"gpus\" is not a number of GPUs");
  gpu.gpus = static_cast<int>(gpus);
  TUTTI_ASSIGN_OR_RETURN(gpu.ll, parse_latency(object, "ll"));
  TUTTI_ASSIGN_OR_RETURN(gpu.simple, parse_latency(object, "simple"));
  gpu.share_ll = number_of(object, "share_ll", 1e-6);
  if (gpu.share_ll < 0) return flaw("\"share_ll\" is not a positive number");
  TUTTI_ASSIGN_OR_RETURN(gpu.timed, parse_all_timed(object));
  return gpu;
}

const Timed* find_timed(const std::vector<Timed>& all, Coll coll, Algo algo, Proto proto, int ranks, bool windows) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Timed& one) {
    return one.coll == coll && one.algo == algo && one.proto == proto && one.ranks == ranks && one.windows == windows;
  });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

double Curve::operator()(double bytes) const {
  const auto at = [](int point) { return static_cast<double>(bytes_at(point)); };
  if (bytes <= at(0)) return us_[0];
  if (bytes >= at(kPoints - 1)) return us_[kPoints - 1] * bytes / at(kPoints - 1);
  int point = 1;
  while (bytes > at(point)) ++point;
  const auto p = static_cast<size_t>(point);
  return between(bytes, at(point - 1), us_[p - 1], at(point), us_[p]);
}

double Timed::operator()(double whole) const {
  if (whole <= bytes.front()) return us.front();
  if (whole >= bytes.back()) return us.back() * whole / bytes.back();
  const auto above = static_cast<size_t>(std::upper_bound(bytes.begin(), bytes.end(), whole) - bytes.begin());
  return between(whole, bytes[above - 1], us[above - 1], bytes[above], us[above]);
}

const Timed* Profile::find(Coll coll, Algo algo, Proto proto, int ranks, int ranks_per_core, bool windows) const {
  if (cpus == 0 || ranks_per_core != (ranks + cpus - 1) / cpus) return nullptr;
  return find_timed(timed, coll, algo, proto, ranks, windows && proto == Proto::Rma);
}

const Timed* GpuProfile::find(Coll coll, Algo algo, Proto proto, int ranks) const {
  return find_timed(timed, coll, algo, proto, ranks, false);
}

uint64_t Profile::digest() const {
  std::string all = name;
  const auto add = [&](const auto& value) { all.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const auto curve : kCurves) add((this->*curve).points());
  add(switch_us);
  add(combine_gbps);
  add(stream_above);
  add(slice_bytes);
  add(cycled_bytes);
  add(cpus);
  const auto add_timed = [&](const std::vector<Timed>& rows) {
    for (const Timed& one : rows) {
      for (const int word : {static_cast<int>(one.coll), static_cast<int>(one.algo), static_cast<int>(one.proto),
                             one.ranks, static_cast<int>(one.windows), static_cast<int>(one.bytes.size())})
        add(word);
      for (const double number : one.bytes) add(number);
      for (const double number : one.us) add(number);
    }
  };
  add_timed(timed);
  all += gpu.gpu;
  add(gpu.gpus);
  for (const double number : {gpu.ll.launch_us, gpu.ll.hop_us, gpu.simple.launch_us, gpu.simple.hop_us, gpu.share_ll})
    add(number);
  add_timed(gpu.timed);
  return fnv1a(all);
}

std::string cpu_vendor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("vendor_id")) continue;
    const size_t colon = line.find(": ");
    return colon == std::string::npos ? std::string() : line.substr(colon + 2);
  }
  return {};
}

Result<Profile> parse_profile(const std::string& text, const std::string& where) {
  const json file = json::parse(text, nullptr, false);
  const auto wrong = [&](std::string_view what) {
    return invalid_argument("{}: {}; make a profile with `tutti tune`, or unset TUTTI_PROFILE", where, what);
  };
  if (file.is_discarded() || !file.is_object()) return wrong("not a JSON object");
  if (number_of(file, "format", 0) != kFormat) return wrong(fmt::format("\"format\" is not {}", kFormat));
  Profile profile;
  const auto name = file.find("name");
  if (name == file.end() || !name->is_string()) return wrong("\"name\" is not a text");
  profile.name = name->get<std::string>();
  for (size_t c = 0; c < std::size(kCurves); ++c) {
    const auto points = positive_numbers(file, kCurveNames[c], Curve::kPoints, Curve::kPoints);
    if (!points.ok()) return wrong(points.status().message());
    std::array<double, Curve::kPoints> us;
    std::copy(points->begin(), points->end(), us.begin());
    profile.*kCurves[c] = Curve(us);
  }
  profile.switch_us = number_of(file, "switch_us", 1e-6);
  profile.combine_gbps = number_of(file, "combine_gbps", 1e-6);
  const double stream_above = number_of(file, "stream_above", 0);
  if (profile.switch_us < 0) return wrong("\"switch_us\" is not a positive number");
  if (profile.combine_gbps < 0) return wrong("\"combine_gbps\" is not a positive number");
  if (stream_above < 0 || stream_above > 1e18) return wrong("\"stream_above\" is not a number of bytes");
  profile.stream_above = static_cast<uint64_t>(stream_above);
  const auto slices = positive_numbers(file, "slice_bytes", kSharings, kSharings);
  if (!slices.ok()) return wrong(slices.status().message());
  for (size_t i = 0; i < kSharings; ++i) {
    const double bytes = (*slices)[i];
    if (bytes < 4096 || bytes > 1 << 30) return wrong("\"slice_bytes\" are not between 4096 and 1073741824");
    profile.slice_bytes[i] = std::bit_floor(static_cast<uint64_t>(bytes));
  }
  if (file.contains("cycled_bytes")) {  // profiles of before 2026-12 have none
    const auto cycled = positive_numbers(file, "cycled_bytes", kSharings, kSharings);
    if (!cycled.ok()) return wrong(cycled.status().message());
    for (size_t i = 0; i < kSharings; ++i) {
      if ((*cycled)[i] > 1 << 30) return wrong("\"cycled_bytes\" are not 1 to 1073741824");
      profile.cycled_bytes[i] = static_cast<uint64_t>((*cycled)[i]);
    }
  }
  const double cpus = number_of(file, "cpus", 0);
  if (cpus < 0 || cpus > 1 << 20) return wrong("\"cpus\" is not a number of CPUs");
  profile.cpus = static_cast<int>(cpus);
  Result<std::vector<Timed>> timed = parse_all_timed(file);
  if (!timed.ok()) return wrong(timed.status().message());
  profile.timed = std::move(*timed);
  if (const auto found = file.find("gpu"); found != file.end()) {
    Result<GpuProfile> gpu = parse_gpu(*found);
    if (!gpu.ok()) return wrong(gpu.status().message());
    profile.gpu = std::move(*gpu);
  }
  return profile;
}

Result<Profile> read_profile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return errno_status("open", fmt::format("{} (TUTTI_PROFILE)", path));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return errno_status("read", path);
  return parse_profile(text, path);
}

std::string format_profile(const Profile& profile) {
  ordered_json file;
  file["format"] = kFormat;
  file["name"] = profile.name;
  for (size_t c = 0; c < std::size(kCurves); ++c) file[kCurveNames[c]] = (profile.*kCurves[c]).points();
  file["switch_us"] = profile.switch_us;
  file["combine_gbps"] = profile.combine_gbps;
  file["stream_above"] = profile.stream_above;
  file["slice_bytes"] = profile.slice_bytes;
  file["cycled_bytes"] = profile.cycled_bytes;
  file["cpus"] = profile.cpus;
  file["timed"] = format_all_timed(profile.timed);
  if (const GpuProfile& gpu = profile.gpu; !gpu.gpu.empty()) {
    const auto latency = [](const GpuProfile::Latency& of) {
      return ordered_json{{"launch_us", of.launch_us}, {"hop_us", of.hop_us}};
    };
    file["gpu"] = {{"name", gpu.gpu},          {"gpus", gpu.gpus},
                   {"ll", latency(gpu.ll)},    {"simple", latency(gpu.simple)},
                   {"share_ll", gpu.share_ll}, {"timed", format_all_timed(gpu.timed)}};
  }
  return file.dump(2) + "\n";
}

const Profile& built_in_profile(const std::string& vendor) {
  if (vendor != "AuthenticAMD") return xeon();
  static const Profile& amd = *new Profile(parse_profile(kAmdProfile, "the built-in profile").value());
  return amd;
}

}  // namespace tutti
