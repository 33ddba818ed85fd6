// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: its seeds, the files it is given (past findings), and mutations of both that
// follow from a fixed seed. A normal test in every build; with the sanitizers of the dev preset it finds most.
//
//   fuzz_NAME_replay [--runs=N] [--seed=N] [--write-seeds=FOLDER] [FILE or FOLDER]...
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

#include "fuzz/target.h"

namespace {

using tutti::fuzz::Input;

Input read_input(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Input(std::istreambuf_iterator<char>(file), {});
}

// What libFuzzer does most: flip, set, insert, erase, repeat, and join two inputs.
Input mutate(Input input, const std::vector<Input>& corpus, std::mt19937_64& random) {
  const auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  for (size_t change = 1 + below(8); change > 0; --change) {
    const size_t at = below(input.size() + 1);
    const auto here = input.begin() + static_cast<std::ptrdiff_t>(at);
    const size_t length = std::min(1 + below(8), input.size() - at);
    switch (below(7)) {
      case 0:
        if (at < input.size()) input[at] ^= static_cast<uint8_t>(1 << below(8));
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<uint8_t>(random());
        break;
      case 2:
        input.insert(here, static_cast<uint8_t>(random()));
        break;
      case 3:
        input.erase(here, here + static_cast<std::ptrdiff_t>(length));
        break;
      case 4:
        for (size_t i = at; i < at + length; ++i) input[i] = (random() & 1) != 0 ? 0xff : 0;
        break;
      case 5:
        input.resize(at);
        break;
      default: {
        const Input& other = corpus[below(corpus.size())];
        const size_t from = below(other.size() + 1);
        input.insert(here, other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
        break;
      }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  size_t runs = 20'000, seed = 1;
  std::vector<Input> corpus = tutti::fuzz::seeds();
  const size_t seeds = corpus.size();
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with("--runs=")) {
      runs = std::strtoull(argv[i] + 7, nullptr, 10);
    } else if (word.starts_with("--seed=")) {
      seed = std::strtoull(argv[i] + 7, nullptr, 10);
    } else if (word.starts_with("--write-seeds=")) {
      const fs::path folder = word.substr(14);
      fs::create_directories(folder);
      for (size_t n = 0; n < seeds; ++n)
        std::ofstream(folder / ("seed-" + std::to_string(n)), std::ios::binary)
            .write(reinterpret_cast<const char*>(corpus[n].data()), static_cast<std::streamsize>(corpus[n].size()));
      return 0;
    } else if (fs::is_directory(word)) {
      for (const auto& entry : fs::directory_iterator(word))
        if (entry.is_regular_file()) corpus.push_back(read_input(entry.path()));
    } else if (fs::is_regular_file(word)) {
      corpus.push_back(read_input(word));
    } else {
      std::fprintf(stderr, "%s: no such file\n", argv[i]);
      return 2;
    }
  }
  if (corpus.empty()) corpus.emplace_back();
  for (const Input& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  std::mt19937_64 random(seed);
  for (size_t run = 0; run < runs; ++run) {
    const Input input = mutate(corpus[random() % corpus.size()], corpus, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu seeds, %zu files, %zu mutations: no finding\n", seeds, corpus.size() - seeds, runs);
  return 0;
}
