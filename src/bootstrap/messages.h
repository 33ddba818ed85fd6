// SPDX-License-Identifier: Apache-2.0
// Messages of the rendezvous, as pure functions: encode, parse, and judge whether the ranks fit together.
//
// Parsers take any bytes and check every size before they use it. A request begins with {version, ABI, byte order, n,
// member}: this head keeps its place for ever, so that libraries of different versions can at least name each other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bootstrap/host_identity.h"
#include "net/address.h"
#include "net/wire.h"

namespace tutti {

inline constexpr int kMaxRanks = 1 << 16;
inline constexpr size_t kMaxInfoBytes = 64 << 10;   // of a rank's blob
inline constexpr size_t kMaxConfigText = 16 << 10;  // settings as text, for messages
inline constexpr size_t kMaxErrorText = 16 << 10;
inline constexpr uint32_t kMaxRequestBytes = 256 << 10;
inline constexpr uint32_t kMaxAnswerBytes = 1u << 30;

// Changes with the meaning of bytes between ranks (slots, plans, these messages), whatever the library's version.
inline constexpr uint32_t kWireAbi = 3;

// What a rank brings to the rendezvous.
struct JoinRequest {
  uint32_t library_version = 0;  // TUTTI_VERSION_CODE
  uint32_t abi = kWireAbi;
  uint8_t byte_order = 0;  // 1: little, 2: big
  uint8_t word_bytes = 0;  // of size_t
  int32_t ranks = 0;       // n, as this rank was told
  Member member;
  int64_t timeout_ms = -1;
  uint64_t config_digest = 0;
  std::string config_text;  // "NAME=value" lines of which the digest was made; may be empty
  std::vector<SocketAddress> addresses;
  Bytes info;
};
Bytes encode_request(const JoinRequest& request);
Result<JoinRequest> parse_request(std::span<const std::byte> bytes);

// What every rank learns of a rank.
struct TableEntry {
  Member member;
  std::vector<SocketAddress> addresses;
  Bytes info;
};
// The answer to rank 0: the table of all ranks in rank order. To any other: its parent in the tree, which passes the
// table on. So the rendezvous sends n entries once and n places, and no rank more than two tables. To all, if so: why
// there is none.
Bytes encode_table(std::span<const JoinRequest> by_rank);
Bytes encode_place(const JoinRequest& parent, size_t ranks);
Bytes encode_refusal(const Status& why);
// What a rank says last: it has its connections, the rendezvous is not needed any more.
inline constexpr std::byte kConnected{0xC0};
Result<std::vector<TableEntry>> parse_answer(std::span<const std::byte> bytes, int ranks);
// The parent of `rank`.
Result<TableEntry> parse_place(std::span<const std::byte> bytes, int ranks, int rank);

// ---- the tree (bootstrap.h) ----

// The parent of a rank other than 0.
constexpr int tree_parent(int rank) { return (rank - 1) / 2; }

// A message is {kind, sequence, payload}; the payload of data is a list of {rank, blob}, that of a failure its text.
ByteWriter begin_tree_data(uint32_t sequence);
void add_tree_part(ByteWriter& writer, int32_t rank, std::span<const std::byte> blob);
Bytes encode_tree_failure(uint32_t sequence, const Status& why);
// The payload of data; a failure, or a message of another exchange, is an error.
Result<Bytes> parse_tree_message(Bytes message, uint32_t sequence, std::string_view peer);
// The blobs in rank order; empty unless there is exactly one of each rank.
std::optional<std::vector<Bytes>> parse_tree_parts(std::span<const std::byte> payload, size_t ranks, size_t most_blob);

// What keeps these ranks (in order of arrival) from ever being one communicator; empty if nothing does. Names the odd
// ranks where most agree.
std::optional<Status> find_conflict(std::span<const JoinRequest> requests);
// "2 of 8 ranks are missing after 120 s: 3, 5"
Status missing_ranks(std::span<const JoinRequest> requests, int64_t waited_ms);
// "0-3, 7": at most a line's worth.
std::string text_of_ranks(std::vector<int> ranks);

}  // namespace tutti
