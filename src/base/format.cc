// SPDX-License-Identifier: Apache-2.0
// The one place where {fmt}'s implementation is compiled (hidden visibility, so it never meets a caller's copy).
#include <fmt/format-inl.h>

#include <cerrno>
#include <cstring>

#include "base/status.h"

FMT_BEGIN_NAMESPACE
namespace detail {
template FMT_API auto dragonbox::to_decimal(float) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API void buffer<char>::append(const char*, const char*);
template FMT_API void vformat_to(buffer<char>&, string_view, basic_format_args<FMT_BUFFER_CONTEXT(char)>, locale_ref);
}  // namespace detail
FMT_END_NAMESPACE

namespace tutti {

Status errno_status(std::string_view call, std::string_view what) {
  const int number = errno;
  char buffer[128];
  const char* text = strerror_r(number, buffer, sizeof buffer);  // GNU variant: returns the text, thread-safe
  return system_error("{} on {}: {} (errno {})", call, what, text, number);
}

}  // namespace tutti
