// SPDX-License-Identifier: Apache-2.0
// The JSON table of steps.
#include "algo/user_schedule.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "algo/catalog.h"
#include "base/fnv.h"

namespace tutti {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
// What can be proven in the time and memory that joining may take: the prover holds the connections of all pairs, and
// its time grows with the cube of the ranks.
constexpr int kMostRanks = 256, kMostChannels = 64;
constexpr int64_t kMostConnections = 1 << 18;  // of all channels
constexpr size_t kMostSteps = 1 << 18;

// Reads members of one object, and remembers the first thing that is wrong and which names were asked for.
class Reader {
 public:
  Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) wrong("is not an object");
  }
  int64_t number(const char* key, int64_t least, int64_t most, int64_t fallback) {
    const json* found = find(key);
    if (found == nullptr) return fallback;
    if (!found->is_number_integer() || (found->is_number_unsigned() && found->get<uint64_t>() > INT64_MAX)) {
      wrong(fmt::format("\"{}\" is not a whole number", key));
      return fallback;
    }
    const auto value = found->get<int64_t>();
    if (value < least || value > most) wrong(fmt::format("\"{}\" is {}; it can be {} to {}", key, value, least, most));
    return value;
  }
  bool flag(const char* key) {
    const json* found = find(key);
    if (found == nullptr) return false;
    if (!found->is_boolean()) wrong(fmt::format("\"{}\" is neither true nor false", key));
    return found->is_boolean() && found->get<bool>();
  }
  std::string text(const char* key, const std::string& fallback) {
    const json* found = find(key);
    if (found == nullptr) return fallback;
    if (!found->is_string()) wrong(fmt::format("\"{}\" is not a text", key));
    return found->is_string() ? found->get<std::string>() : fallback;
  }
  const json* list(const char* key) {
    const json* found = find(key);
    if (found == nullptr || found->is_array()) return found;
    wrong(fmt::format("\"{}\" is not a list", key));
    return nullptr;
  }
  bool has(const char* key) const { return object_.is_object() && object_.contains(key); }
  void wrong(std::string what) {
    if (status_.ok()) status_ = invalid_argument("{} {}", where_, what);
  }
  // Also: nothing was there that nobody asked for.
  Status finish() {
    if (object_.is_object()) {
      for (const auto& item : object_.items()) {
        if (std::find(known_.begin(), known_.end(), item.key()) == known_.end())
          wrong(fmt::format("has \"{}\", which means nothing", item.key()));
      }
    }
    return status_;
  }

 private:
  const json* find(const char* key) {
    known_.emplace_back(key);
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  const json& object_;
  std::string where_;
  std::vector<std::string> known_;
  Status status_;
};

Peers read_peers(Reader& reader, const char* key, int me, UserSchedule& made) {
  const json* list = reader.list(key);
  if (list == nullptr) return {};
  std::vector<int> ranks;
  for (const json& one : *list) {
    const bool fits = one.is_number_integer() && one.get<int64_t>() >= 0 && one.get<int64_t>() < made.n;
    if (!fits) {
      reader.wrong(fmt::format("\"{}\" holds what is no rank of {}", key, made.n));
      return {};
    }
    ranks.push_back(one.get<int>());
  }
  std::sort(ranks.begin(), ranks.end());
  if (std::adjacent_find(ranks.begin(), ranks.end()) != ranks.end())
    reader.wrong(fmt::format("\"{}\" names a rank twice", key));
  if (std::find(ranks.begin(), ranks.end(), me) != ranks.end())
    reader.wrong(fmt::format("\"{}\" names rank {} itself", key, me));
  if (ranks.empty()) return {};
  made.peers.push_back(std::move(ranks));
  return Peers::all_of(made.peers.back().data(), static_cast<int>(made.peers.back().size()));
}

Result<Step> read_step(const json& object, int me, size_t k, UserSchedule& made) {
  Reader reader(object, fmt::format("{}: step {} of rank {}", made.file, k, me));
  Step step;
  step.from = read_peers(reader, "from", me, made);
  step.to = read_peers(reader, "to", me, made);
  const std::string read = reader.text("read", "");
  if (read == "input") step.src = Buffer::Input;
  if (read == "output") step.src = Buffer::Output;
  if (!read.empty() && step.src == Buffer::None) reader.wrong("reads neither \"input\" nor \"output\"");
  const bool region = coll_layout(made.coll, made.n, 0, made.root, 0).input.kind == Layout::Kind::Region;
  const int blocks = region ? made.blocks : made.n;
  if (step.src == Buffer::None && reader.has("block")) reader.wrong("has \"block\" but no \"read\"");
  step.src_block = static_cast<int>(reader.number("block", 0, blocks - 1, 0));
  step.dst_block = static_cast<int>(reader.number("keep", 0, blocks - 1, -1));
  step.blocks = static_cast<int>(reader.number("count", 1, blocks, 1));
  if (step.blocks > 1 && !region) reader.wrong("moves several blocks, which only all_reduce, reduce and broadcast can");
  step.reduce = reader.flag("reduce");
  step.last = reader.flag("last");
  TUTTI_TRY(reader.finish());
  return step;
}

}  // namespace

Result<std::unique_ptr<UserSchedule>> parse_user_schedule(const std::string& text, const std::string& file) {
  const json document = json::parse(text, nullptr, false);
  if (document.is_discarded()) return invalid_argument("{}: not JSON", file);
  auto made = std::make_unique<UserSchedule>();
  made->file = file;
  Reader reader(document, file + ":");
  if (reader.number("format", kFormat, kFormat, 0) != kFormat)
    reader.wrong(fmt::format("\"format\" is not {}", kFormat));
  made->name = reader.text("name", file);
  const std::string collective = reader.text("collective", "");
  if (const Coll* coll = find_coll(collective); coll == nullptr || *coll == Coll::SendRecv) {
    reader.wrong(
        fmt::format("\"collective\" is '{}'; it can be all_reduce, reduce, broadcast, all_gather, "
                    "reduce_scatter, all_to_all, gather, scatter",
                    collective));
  } else {
    made->coll = *coll;
  }
  made->n = static_cast<int>(reader.number("ranks", 2, kMostRanks, 0));
  if (!reader.has("ranks")) reader.wrong("\"ranks\" is missing");
  made->root = static_cast<int>(reader.number("root", 0, std::max(made->n - 1, 0), 0));
  if (reader.has("root") && !rooted(made->coll)) reader.wrong("has \"root\", but its collective has none");
  made->min_bytes = static_cast<uint64_t>(reader.number("min_bytes", 0, INT64_MAX, 0));
  if (reader.has("max_bytes")) made->max_bytes = static_cast<uint64_t>(reader.number("max_bytes", 0, INT64_MAX, 0));
  if (made->min_bytes > made->max_bytes) reader.wrong("\"min_bytes\" is above \"max_bytes\"");
  made->channels = static_cast<int>(reader.number("channels", 1, kMostChannels, 1));
  made->blocks = static_cast<int>(reader.number("blocks", 1, kMostRanks, 1));
  const bool region = coll_layout(made->coll, std::max(made->n, 1), 0, 0, 0).input.kind == Layout::Kind::Region;
  if (reader.has("blocks") && !region) reader.wrong("has \"blocks\", but its collective has one for each rank");
  const int64_t pairs = int64_t{made->n} * made->n * made->channels;
  if (pairs > kMostConnections)
    reader.wrong(fmt::format("has {} connections (ranks * ranks * channels), more than {} that can be proven", pairs,
                             kMostConnections));
  const json* ranks = reader.list("steps");
  TUTTI_TRY(reader.finish());
  if (ranks == nullptr || ranks->size() != static_cast<size_t>(made->n))
    return invalid_argument("{}: \"steps\" is not a list with {} lists, one for each rank", file, made->n);
  size_t all = 0;
  for (int me = 0; me < made->n; ++me) {
    const json& list = (*ranks)[static_cast<size_t>(me)];
    if (!list.is_array()) return invalid_argument("{}: the steps of rank {} are no list", file, me);
    if ((all += list.size()) > kMostSteps) return invalid_argument("{}: more than {} steps", file, kMostSteps);
    std::vector<Step>& steps = made->steps.emplace_back();
    for (const json& object : list) {
      TUTTI_ASSIGN_OR_RETURN(const Step step, read_step(object, me, steps.size(), *made));
      steps.push_back(step);
    }
  }
  made->digest = fnv1a(document.dump());  // what it says, not how it is spaced
  return made;
}

Result<std::unique_ptr<UserSchedule>> read_user_schedule(const std::string& path) {
  std::ifstream file(path);
  if (!file) return errno_status("open", path);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return errno_status("read", path);
  return parse_user_schedule(text, path);
}

}  // namespace tutti
