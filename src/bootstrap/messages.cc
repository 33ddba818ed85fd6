// SPDX-License-Identifier: Apache-2.0
// See messages.h.
#include "bootstrap/messages.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace tutti {
namespace {

constexpr uint8_t kTable = 1, kRefusal = 2, kPlace = 3;
constexpr uint8_t kData = 1, kFailure = 2;  // on the tree

using Requests = std::span<const JoinRequest>;

// Groups the ranks by what they say; the text of the conflict, or nothing if all say the same.
std::optional<std::string> disagreement(Requests requests, const char* about,
                                        const std::function<std::string(const JoinRequest&)>& say) {
  std::map<std::string, std::vector<const JoinRequest*>> groups;
  for (const JoinRequest& request : requests) groups[say(request)].push_back(&request);
  if (groups.size() <= 1) return std::nullopt;
  const auto most = std::ranges::max_element(groups, {}, [](const auto& group) { return group.second.size(); });
  const bool tie =
      std::ranges::count_if(groups, [&](const auto& group) { return group.second.size() == most->second.size(); }) > 1;
  std::string text = fmt::format("the ranks do not agree on {}: ", about);
  if (!tie) text += fmt::format("most have {}, but ", most->first);
  bool first = true;
  for (const auto& [said, members] : groups) {
    if (!tie && said == most->first) continue;
    if (!first) text += "; ";
    first = false;
    if (members.size() == 1) {
      text += fmt::format("{} has {}", members[0]->member.text(), said);
      continue;
    }
    std::vector<int> ranks;
    for (const JoinRequest* member : members) ranks.push_back(member->member.rank);
    text += fmt::format("ranks {} have {}", text_of_ranks(ranks), said);
  }
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// The settings that not all ranks have. Without texts there is only the digest to show.
std::function<std::string(const JoinRequest&)> say_config(Requests requests) {
  std::map<std::string, size_t> seen;
  for (const JoinRequest& request : requests) {
    for (const std::string& line : lines_of(request.config_text)) ++seen[line];
  }
  const size_t all = requests.size();
  return [seen, all](const JoinRequest& request) {
    std::string odd;
    for (const std::string& line : lines_of(request.config_text)) {
      if (seen.at(line) < all) odd += (odd.empty() ? "" : " ") + line;
    }
    return odd.empty() ? fmt::format("configuration {:016x}", request.config_digest) : odd;
  };
}

std::string version_text(const JoinRequest& request) {
  const uint32_t version = request.library_version;
  return fmt::format("{}.{}.{} (wire format {})", version / 10000, version / 100 % 100, version % 100, request.abi);
}

std::string machine_text(const JoinRequest& request) {
  return fmt::format("{}-bit {}-endian words", request.word_bytes * 8, request.byte_order == 1 ? "little" : "big");
}

std::optional<Status> rank_used_twice(Requests requests) {
  std::map<int, const JoinRequest*> first;
  for (const JoinRequest& request : requests) {
    const auto [entry, fresh] = first.emplace(request.member.rank, &request);
    if (fresh) continue;
    return invalid_argument(
        "rank {} is used twice: by process {} on {} and by process {} on {}; give each a rank of its own",
        request.member.rank, entry->second->member.pid, entry->second->member.hostname, request.member.pid,
        request.member.hostname);
  }
  return std::nullopt;
}

}  // namespace

Bytes encode_request(const JoinRequest& request) {
  ByteWriter writer;
  writer.number(request.library_version);
  writer.number(request.abi);
  writer.number(request.byte_order);
  writer.number(request.word_bytes);
  writer.number(request.ranks);
  request.member.encode(writer);
  // The head for all versions ends here.
  writer.number(request.timeout_ms);
  writer.number(request.config_digest);
  writer.sized(request.config_text);
  encode_addresses(writer, request.addresses);
  writer.sized(request.info);
  return writer.take();
}

Result<JoinRequest> parse_request(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  JoinRequest request;
  request.library_version = reader.number<uint32_t>();
  request.abi = reader.number<uint32_t>();
  request.byte_order = reader.number<uint8_t>();
  request.word_bytes = reader.number<uint8_t>();
  request.ranks = reader.number<int32_t>();
  request.member = Member::decode(reader);
  if (!reader.ok()) return remote_error("a request to join does not parse");
  if (request.abi != kWireAbi) return request;  // only its head can be read
  request.timeout_ms = reader.number<int64_t>();
  request.config_digest = reader.number<uint64_t>();
  request.config_text = reader.text(kMaxConfigText);
  request.addresses = decode_addresses(reader);
  const auto info = reader.sized(kMaxInfoBytes);
  request.info.assign(info.begin(), info.end());
  if (!reader.finished()) return remote_error("the request of {} to join does not parse", request.member.text());
  return request;
}

namespace {

void encode_entry(ByteWriter& writer, const JoinRequest& request) {
  request.member.encode(writer);
  encode_addresses(writer, request.addresses);
  writer.sized(request.info);
}
TableEntry decode_entry(ByteReader& reader) {
  TableEntry entry;
  entry.member = Member::decode(reader);
  entry.addresses = decode_addresses(reader);
  const auto info = reader.sized(kMaxInfoBytes);
  entry.info.assign(info.begin(), info.end());
  return entry;
}

Status bad_answer() { return remote_error("the answer of the rendezvous does not parse"); }

// What follows the kind of a refusal.
Status decode_refusal(ByteReader& reader) {
  const auto code = reader.number<int32_t>();
  const std::string text = reader.text(kMaxErrorText);
  const bool known = code > static_cast<int32_t>(Code::Ok) && code < static_cast<int32_t>(Code::InProgress);
  if (!reader.finished() || !known) return bad_answer();
  return Status(static_cast<Code>(code), text);
}

}  // namespace

Bytes encode_table(std::span<const JoinRequest> by_rank) {
  ByteWriter writer;
  writer.number(kTable);
  writer.number(static_cast<uint32_t>(by_rank.size()));
  for (const JoinRequest& request : by_rank) encode_entry(writer, request);
  return writer.take();
}

Bytes encode_place(const JoinRequest& parent, size_t ranks) {
  ByteWriter writer;
  writer.number(kPlace);
  writer.number(static_cast<uint32_t>(ranks));
  encode_entry(writer, parent);
  return writer.take();
}

Bytes encode_refusal(const Status& why) {
  ByteWriter writer;
  writer.number(kRefusal);
  writer.number(static_cast<int32_t>(why.code()));
  writer.sized(std::string_view(why.message()).substr(0, kMaxErrorText));
  return writer.take();
}

Result<std::vector<TableEntry>> parse_answer(std::span<const std::byte> bytes, int ranks) {
  ByteReader reader(bytes);
  const auto kind = reader.number<uint8_t>();
  if (kind == kRefusal) return decode_refusal(reader);
  if (kind != kTable || reader.number<uint32_t>() != static_cast<uint32_t>(ranks)) return bad_answer();
  std::vector<TableEntry> table;
  for (int rank = 0; rank < ranks && reader.ok(); ++rank) {
    table.push_back(decode_entry(reader));
    if (table.back().member.rank != rank) return bad_answer();
  }
  if (!reader.finished()) return bad_answer();
  return table;
}

Result<TableEntry> parse_place(std::span<const std::byte> bytes, int ranks, int rank) {
  ByteReader reader(bytes);
  const auto kind = reader.number<uint8_t>();
  if (kind == kRefusal) return decode_refusal(reader);
  if (kind != kPlace || reader.number<uint32_t>() != static_cast<uint32_t>(ranks)) return bad_answer();
  TableEntry parent = decode_entry(reader);
  if (!reader.finished() || parent.member.rank != tree_parent(rank)) return bad_answer();
  return parent;
}

ByteWriter begin_tree_data(uint32_t sequence) {
  ByteWriter writer;
  writer.number(kData);
  writer.number(sequence);
  return writer;
}

void add_tree_part(ByteWriter& writer, int32_t rank, std::span<const std::byte> blob) {
  writer.number(rank);
  writer.sized(blob);
}

Bytes encode_tree_failure(uint32_t sequence, const Status& why) {
  ByteWriter writer;
  writer.number(kFailure);
  writer.number(sequence);
  writer.sized(std::string_view(why.message()).substr(0, kMaxErrorText));
  return writer.take();
}

Result<Bytes> parse_tree_message(Bytes message, uint32_t sequence, std::string_view peer) {
  ByteReader head(message);
  const auto kind = head.number<uint8_t>();
  const auto theirs = head.number<uint32_t>();
  if (kind == kFailure) return remote_error("{}", head.text(kMaxErrorText));
  if (kind != kData || theirs != sequence) {
    return remote_error("{} is at another out-of-band exchange ({}) than this rank ({})", peer, theirs, sequence);
  }
  message.erase(message.begin(), message.end() - static_cast<std::ptrdiff_t>(head.left()));
  return message;
}

std::optional<std::vector<Bytes>> parse_tree_parts(std::span<const std::byte> payload, size_t ranks, size_t most_blob) {
  std::vector<Bytes> blobs(ranks);
  std::vector<bool> here(ranks);
  ByteReader reader(payload);
  for (size_t i = 0; i < ranks; ++i) {
    const auto rank = static_cast<uint32_t>(reader.number<int32_t>());
    const auto blob = reader.sized(most_blob);
    if (!reader.ok() || rank >= ranks || here[rank]) return std::nullopt;
    here[rank] = true;
    blobs[rank].assign(blob.begin(), blob.end());
  }
  if (!reader.finished()) return std::nullopt;
  return blobs;
}

std::optional<Status> find_conflict(std::span<const JoinRequest> requests) {
  if (const auto text = disagreement(requests, "the version of the library", version_text)) {
    return invalid_usage("{}; install one Tutti version for all ranks", *text);
  }
  if (const auto text = disagreement(requests, "the kind of machine", machine_text)) {
    return invalid_usage("{}; run all ranks on one architecture", *text);
  }
  const auto say_ranks = [](const JoinRequest& request) { return fmt::format("nranks {}", request.ranks); };
  if (const auto text = disagreement(requests, "the number of ranks", say_ranks)) {
    return invalid_argument("{}; pass the same nranks on all ranks", *text);
  }
  for (const JoinRequest& request : requests) {
    if (request.ranks < 1 || request.ranks > kMaxRanks) {
      return invalid_argument("{} has nranks {}: it must be 1 to {}", request.member.text(), request.ranks, kMaxRanks);
    }
    if (request.member.rank >= 0 && request.member.rank < request.ranks) continue;
    return invalid_argument("{} is out of range: ranks are 0 to {}", request.member.text(), request.ranks - 1);
  }
  if (const auto twice = rank_used_twice(requests)) return twice;
  const auto digest = [](const JoinRequest& request) { return request.config_digest; };
  const bool one_digest = std::ranges::adjacent_find(requests, std::not_equal_to<>(), digest) == requests.end();
  if (!one_digest) {
    const auto text = disagreement(requests, "the configuration", say_config(requests));
    return invalid_usage("{}; set the same TUTTI_* variables and config on all ranks",
                         text.value_or("the ranks do not agree on the configuration"));
  }
  return std::nullopt;
}

Status missing_ranks(std::span<const JoinRequest> requests, int64_t waited_ms) {
  std::set<int> here;
  for (const JoinRequest& request : requests) here.insert(request.member.rank);
  const int ranks = requests.empty() ? 0 : requests[0].ranks;
  std::vector<int> missing;
  for (int rank = 0; rank < ranks; ++rank) {
    if (!here.contains(rank)) missing.push_back(rank);
  }
  return remote_error(
      "{} of {} ranks {} missing after {:g} s: {}; were they all started? TUTTI_INIT_TIMEOUT sets the wait",
      missing.size(), ranks, missing.size() == 1 ? "is" : "are", static_cast<double>(waited_ms) / 1000.0,
      text_of_ranks(missing));
}

std::string text_of_ranks(std::vector<int> ranks) {
  constexpr size_t kLongest = 200;
  std::ranges::sort(ranks);
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (text.size() > kLongest) return text + ", ...";
    if (!text.empty()) text += ", ";
    // Two neighbours read better as "3, 4" than as "3-4".
    if (last == i + 1) last = i;
    text += last == i ? fmt::format("{}", ranks[i]) : fmt::format("{}-{}", ranks[i], ranks[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace tutti
