// SPDX-License-Identifier: Apache-2.0
// See shm_exchange.h.
#include "transports/shm/shm_exchange.h"

#include <sodium.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace tutti::shm {

Mac prove(const ShmKey& key, Role role, const Transcript& said) {
  crypto_generichash_state state;
  Mac mac;
  crypto_generichash_init(&state, reinterpret_cast<const unsigned char*>(key.secret.data()), key.secret.size(),
                          mac.size());
  const auto add = [&](const auto& part) {
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(&part), sizeof part);
  };
  add(kMagic);
  add(role);
  add(key.tag);
  add(said.leader_rank);
  add(said.local_rank);
  add(said.fetchers);
  add(said.leaders);
  crypto_generichash_final(&state, mac.data(), mac.size());
  return mac;
}

AbstractAddress abstract_address(const ShmKey& key, int leader_rank) {
  const Mac hash = prove(key, Role::Leader, {.leader_rank = leader_rank, .local_rank = -1, .fetchers{}, .leaders{}});
  std::array<char, 2 * 16 + 1> hex;
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), 16);
  const std::string text = fmt::format("tutti-{}", hex.data());
  AbstractAddress name;
  name.address.sun_family = AF_UNIX;
  std::memcpy(name.address.sun_path + 1, text.data(), text.size());  // sun_path[0] == 0: abstract
  name.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return name;
}

}  // namespace tutti::shm
