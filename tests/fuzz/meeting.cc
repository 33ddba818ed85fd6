// SPDX-License-Identifier: Apache-2.0
// What rank 0 leaves in a launcher's store: what is taken has places to meet at, and says the same when it is said
// again.
#include "bootstrap/meeting.h"

#include "fuzz/target.h"

using namespace tutti;

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  const auto add = [&](std::string_view text) { seeds.emplace_back(text.begin(), text.end()); };
  Meeting meeting;
  for (size_t i = 0; i < meeting.secret.bytes.size(); ++i) meeting.secret.bytes[i] = static_cast<uint8_t>(i);
  for (const char* address : {"10.0.0.1:4711", "[fd00::1]:4711"}) {
    meeting.addresses.push_back(*SocketAddress::parse(address));
    add(meeting.text());
  }
  add(kNoMeeting);
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<Meeting> meeting = Meeting::parse(text);
  if (!meeting.ok()) return 0;
  fuzz::require(!meeting->addresses.empty(), "a meeting at no place");
  const Result<Meeting> again = Meeting::parse(meeting->text());
  fuzz::require(again.ok() && again->secret == meeting->secret && again->addresses == meeting->addresses,
                "it was read otherwise");
  return 0;
}
