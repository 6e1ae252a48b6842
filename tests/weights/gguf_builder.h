// Writes GGUF bytes for tests, honest or not.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace inferd::test {

/// Appends the little-endian bytes of `value`.
template <typename T>
void append(std::string* out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

/// Collects keys and tensors; build() lays them out. Fields can be set to lies.
class GgufBuilder {
 public:
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::int64_t claimed_tensors = -1;  // -1: the truth
  std::int64_t claimed_keys = -1;

  template <typename T>
  GgufBuilder& number(std::string_view key, std::uint32_t type, T value) {
    begin_key(key, type);
    append(&keys_, value);
    return *this;
  }
  GgufBuilder& u32(std::string_view key, std::uint32_t value) { return number(key, 4, value); }
  GgufBuilder& f32(std::string_view key, float value) { return number(key, 6, value); }
  GgufBuilder& text(std::string_view key, std::string_view value) {
    begin_key(key, 8);
    string(&keys_, value);
    return *this;
  }
  /// `payload` after the key and type, as it is.
  GgufBuilder& raw(std::string_view key, std::uint32_t type, std::string_view payload) {
    begin_key(key, type);
    keys_ += payload;
    return *this;
  }
  GgufBuilder& strings(std::string_view key, const std::vector<std::string>& values) {
    begin_key(key, 9);
    append(&keys_, std::uint32_t{8});
    append(&keys_, static_cast<std::uint64_t>(values.size()));
    for (const std::string& value : values) string(&keys_, value);
    return *this;
  }
  template <typename T>
  GgufBuilder& array(std::string_view key, std::uint32_t type, const std::vector<T>& values) {
    begin_key(key, 9);
    append(&keys_, type);
    append(&keys_, static_cast<std::uint64_t>(values.size()));
    for (T value : values) append(&keys_, value);
    return *this;
  }
  /// dims in the file's order. The offset is where the data lands, unless `lie` is given.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                      std::string_view data, std::int64_t lie = -1) {
    string(&infos_, name);
    append(&infos_, static_cast<std::uint32_t>(dims.size()));
    for (std::uint64_t dim : dims) append(&infos_, dim);
    append(&infos_, type);
    append(&infos_, lie >= 0 ? static_cast<std::uint64_t>(lie) : static_cast<std::uint64_t>(data_.size()));
    data_ += data;
    while (data_.size() % alignment != 0) data_ += '\0';
    ++tensor_count_;
    return *this;
  }
  std::string build() const {
    std::string out = magic;
    append(&out, version);
    append(&out, claimed_tensors >= 0 ? claimed_tensors : tensor_count_);
    append(&out, claimed_keys >= 0 ? claimed_keys : key_count_);
    out += keys_;
    out += infos_;
    while (tensor_count_ > 0 && out.size() % alignment != 0) out += '\0';
    return out + data_;
  }

  static void string(std::string* out, std::string_view text) {
    append(out, static_cast<std::uint64_t>(text.size()));
    out->append(text);
  }

 private:
  void begin_key(std::string_view key, std::uint32_t type) {
    string(&keys_, key);
    append(&keys_, type);
    ++key_count_;
  }
  std::string keys_, infos_, data_;
  std::int64_t key_count_ = 0, tensor_count_ = 0;
};

/// A tiny but complete llama: every key and tensor the reader of configurations asks for.
inline GgufBuilder small_llama() {
  GgufBuilder builder;
  builder.text("general.architecture", "llama").text("general.name", "tiny").u32("general.file_type", 2);
  builder.u32("llama.block_count", 2).u32("llama.context_length", 128).u32("llama.embedding_length", 64);
  builder.u32("llama.feed_forward_length", 96).u32("llama.attention.head_count", 4);
  builder.u32("llama.attention.head_count_kv", 2).f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  builder.strings("tokenizer.ggml.tokens", {"<s>", "</s>", "a", "b"}).u32("tokenizer.ggml.eos_token_id", 1);
  builder.array<float>("tokenizer.ggml.scores", 6, {0.0f, 0.5f, -1.0f, 2.0f});
  builder.array<std::int32_t>("tokenizer.ggml.token_type", 5, {3, 3, 1, 1});
  builder.tensor("token_embd.weight", {64, 4}, 2, std::string(4 * 36, '\x11'));
  builder.tensor("output_norm.weight", {64}, 0, std::string(256, '\0'));
  return builder;
}

}  // namespace inferd::test
