// Shared by the tests of model files: folders to write into, files to read, errors as text.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <unistd.h>

#include "base/errors.h"
#include "base/json.h"
#include "tests/catch.h"

namespace inferd::test {

inline std::filesystem::path golden(const std::string& path) {
  return std::filesystem::path(INFERD_SOURCE_DIR) / "tests/golden" / path;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

inline Json read_golden_json(const std::string& path) { return parse_json(read_text(golden(path))); }

/// A folder that vanishes with the object.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "inferd-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// The message of the CheckpointError that `action` throws, "" if it does not; other exceptions fail the test.
template <typename Action>
std::string refusal(Action action) {
  try {
    action();
  } catch (const CheckpointError& error) {
    REQUIRE(error.code == ExitCode::bad_model);
    REQUIRE(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  return "";
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace inferd::test
