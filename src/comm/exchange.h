// SPDX-License-Identifier: Apache-2.0
// Out-of-band exchanges of a communicator: what each rank says, together with how it went there. Used where ranks have
// to come to the same result (join.cc, windows.cc): after each exchange all ranks know the same.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "bootstrap/bootstrap.h"
#include "comm/job_graph.h"
#include "net/wire.h"

namespace tutti {

// An out-of-band exchange of "how it went here" and something for the others. An error of one is an error of all.
inline constexpr size_t kMostWord = 1 << 16;
inline constexpr size_t kMostPayload = JobGraph::kMostBytes + kMostWord;
inline Result<std::vector<Bytes>> exchange(Bootstrap& bootstrap, const Status& mine,
                                           std::span<const std::byte> payload) {
  ByteWriter writer;
  writer.number(static_cast<uint32_t>(mine.code()));
  writer.sized(mine.message());
  writer.sized(payload);
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> all, bootstrap.all_gather(writer.bytes()));
  std::vector<Bytes> payloads;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    ByteReader reader(all[rank]);
    const auto code = static_cast<Code>(reader.number<uint32_t>());
    const std::string text = reader.text(kMostWord);
    const std::span<const std::byte> theirs = reader.sized(kMostPayload);
    payloads.emplace_back(theirs.begin(), theirs.end());
    if (!reader.finished())
      return error(Code::InternalError, "rank {} sent a malformed word during initialisation", rank);
    if (static_cast<int>(rank) == bootstrap.rank()) {
      TUTTI_TRY(mine);
    } else if (code != Code::Ok) {
      return Status(Code::RemoteError, fmt::format("{}: {}", bootstrap.members()[rank].text(), text));
    }
  }
  return payloads;
}

// The same trivially copyable word from every rank.
template <class Word>
Result<std::vector<Word>> exchange_words(Bootstrap& bootstrap, const Status& mine, const Word& word) {
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Bytes> all, exchange(bootstrap, mine, std::as_bytes(std::span(&word, 1))));
  std::vector<Word> words(all.size());
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].size() != sizeof(Word))
      return error(Code::InternalError, "rank {} sent a malformed word during initialisation", rank);
    std::memcpy(&words[rank], all[rank].data(), sizeof(Word));
  }
  return words;
}

}  // namespace tutti
