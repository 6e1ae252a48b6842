// A bounded reader for the few protobuf fields that matter, and the pipeline made from them.
#include "engine/text/sentencepiece_file.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/errors.h"
#include "base/utf8.h"
#include "engine/text/sentencepiece_models.h"

namespace inferd {
namespace {

/// One field of a protobuf message.
struct ProtoField {
  std::uint32_t number = 0;
  std::uint32_t wire = 0;
  std::uint64_t value = 0;  // wire types 0, 1 and 5
  std::string_view bytes;   // wire type 2
};

/// Walks the fields of one message; every length is checked against the bytes that are left.
class ProtoReader {
 public:
  ProtoReader(std::string_view bytes, const std::string& file, std::string_view message)
      : bytes_(bytes), file_(file), message_(message) {}

  /// The next field; nullopt at the end.
  std::optional<ProtoField> next() {
    if (at_ == bytes_.size()) return std::nullopt;
    ProtoField field;
    const std::uint64_t tag = varint();
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) fail("a field number", std::to_string(tag >> 3));
    field.number = static_cast<std::uint32_t>(tag >> 3);
    field.wire = static_cast<std::uint32_t>(tag & 7);
    switch (field.wire) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 5:
        field.value = fixed(4);
        break;
      case 2: {
        const std::uint64_t length = varint();
        if (length > bytes_.size() - at_)
          fail(std::to_string(length) + " more bytes", std::to_string(bytes_.size() - at_));
        field.bytes = bytes_.substr(at_, static_cast<std::size_t>(length));
        at_ += static_cast<std::size_t>(length);
        break;
      }
      default:
        fail("wire type 0, 1, 2 or 5", std::to_string(field.wire));
    }
    return field;
  }

  [[noreturn]] void fail(const std::string& expected, const std::string& found) const {
    throw CheckpointError(file_, std::string(message_) + " at byte " + std::to_string(at_), expected, found);
  }
  void want(const ProtoField& field, std::uint32_t wire) const {
    if (field.wire != wire) {
      fail("wire type " + std::to_string(wire) + " for field " + std::to_string(field.number),
           std::to_string(field.wire));
    }
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) fail("the rest of a number", "the end");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of at most ten bytes", "more");
  }
  std::uint64_t fixed(std::size_t size) {
    if (bytes_.size() - at_ < size) fail(std::to_string(size) + " more bytes", std::to_string(bytes_.size() - at_));
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(bytes_[at_ + i]);
    at_ += size;
    return value;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  const std::string& file_;
  std::string_view message_;
};

void read_piece(std::string_view bytes, TokenizerParts* parts) {
  Vocabulary& vocabulary = parts->vocabulary;
  ProtoReader reader(bytes, parts->file, "piece " + std::to_string(vocabulary.size()));
  std::string piece;
  double score = 0.0;
  std::uint64_t type = 1;
  while (const auto field = reader.next()) {
    if (field->number == 1) {
      reader.want(*field, 2);
      piece.assign(field->bytes);
    } else if (field->number == 2) {
      reader.want(*field, 5);
      score = std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
    } else if (field->number == 3) {
      reader.want(*field, 0);
      type = field->value;
    }
  }
  if (type < 1 || type > 6) reader.fail("a type from 1 to 6", std::to_string(type));
  if (!std::isfinite(score)) reader.fail("a finite score", "another");
  if (piece.size() > kMaxPieceBytes || !is_valid_utf8(piece)) reader.fail("UTF-8 of at most 64 KiB", "something else");
  vocabulary.pieces.push_back(std::move(piece));
  vocabulary.kinds.push_back(static_cast<PieceKind>(type));
  vocabulary.scores.push_back(score);
}

TokenId read_id(const ProtoReader& reader, const ProtoField& field) {
  reader.want(field, 0);
  const auto id = static_cast<std::int64_t>(field.value);
  if (id < -1 || id >= static_cast<std::int64_t>(kMaxVocabulary)) reader.fail("a token id or -1", std::to_string(id));
  return static_cast<TokenId>(id);
}

void read_trainer(std::string_view bytes, const std::string& file, SentencePieceSpec* spec) {
  ProtoReader reader(bytes, file, "trainer_spec");
  while (const auto field = reader.next()) {
    switch (field->number) {
      case 3:
        reader.want(*field, 0);
        if (field->value != 1 && field->value != 2)
          reader.fail("model_type unigram (1) or BPE (2)", std::to_string(field->value));
        spec->unigram = field->value == 1;
        break;
      case 24:
        spec->whitespace_as_suffix = field->value != 0;
        break;
      case 35:
        spec->byte_fallback = field->value != 0;
        break;
      case 40:
        spec->unk = read_id(reader, *field);
        break;
      case 41:
        spec->bos = read_id(reader, *field);
        break;
      case 42:
        spec->eos = read_id(reader, *field);
        break;
      case 43:
        spec->pad = read_id(reader, *field);
        break;
      default:
        break;
    }
  }
}

void read_normalizer_spec(std::string_view bytes, const std::string& file, SentencePieceSpec* spec) {
  ProtoReader reader(bytes, file, "normalizer_spec");
  while (const auto field = reader.next()) {
    switch (field->number) {
      case 2:
        reader.want(*field, 2);
        spec->charsmap.assign(field->bytes);
        break;
      case 3:
        spec->add_dummy_prefix = field->value != 0;
        break;
      case 4:
        spec->remove_extra_whitespaces = field->value != 0;
        break;
      case 5:
        spec->escape_whitespaces = field->value != 0;
        break;
      default:
        break;
    }
  }
}

}  // namespace

SentencePieceSpec read_sentencepiece_file(std::string_view bytes, TokenizerParts* parts) {
  SentencePieceSpec spec;
  ProtoReader reader(bytes, parts->file, "model");
  while (const auto field = reader.next()) {
    if (field->number > 3) continue;
    reader.want(*field, 2);
    if (field->number == 1) {
      if (parts->vocabulary.size() >= kMaxVocabulary)
        reader.fail("at most " + std::to_string(kMaxVocabulary) + " pieces", "more");
      read_piece(field->bytes, parts);
    } else if (field->number == 2) {
      read_trainer(field->bytes, parts->file, &spec);
    } else {
      read_normalizer_spec(field->bytes, parts->file, &spec);
    }
  }
  const auto size = static_cast<TokenId>(parts->vocabulary.size());
  if (size == 0) throw CheckpointError(parts->file, "pieces", "at least one", "none");
  // The file's defaults name ids that a vocabulary need not have; a control piece has another kind than normal.
  for (TokenId* id : {&spec.bos, &spec.eos, &spec.pad}) {
    if (*id >= size || (*id >= 0 && parts->vocabulary.kinds[static_cast<std::size_t>(*id)] == PieceKind::normal))
      *id = -1;
  }
  spec.unk = -1;
  for (TokenId id = 0; id < size && spec.unk < 0; ++id) {
    if (parts->vocabulary.kinds[static_cast<std::size_t>(id)] == PieceKind::unknown) spec.unk = id;
  }
  return spec;
}

void build_sentencepiece(const SentencePieceSpec& spec, PrefixScheme scheme, TokenizerParts* parts) {
  SentencePieceNormalizerOptions normal;
  if (!spec.charsmap.empty()) {
    normal.charsmap = std::make_unique<Charsmap>(Charsmap::parse(spec.charsmap, parts->file));
  }
  normal.remove_extra_whitespaces = spec.remove_extra_whitespaces;
  normal.escape_whitespaces = spec.escape_whitespaces;
  normal.whitespace_as_suffix = spec.whitespace_as_suffix;
  normal.dummy_prefix = spec.add_dummy_prefix ? scheme : PrefixScheme::never;
  parts->normalizer.push_back(make_sentencepiece_step(std::move(normal)));
  if (spec.unigram) {
    UnigramOptions options;
    options.unk = spec.unk;
    options.byte_fallback = spec.byte_fallback;
    options.float_sums = true;
    parts->model = std::make_unique<UnigramModel>(parts->vocabulary, options);
  } else {
    parts->model = std::make_unique<SpmBpeModel>(parts->vocabulary, spec.unk, spec.byte_fallback);
  }
  parts->decode.replace.emplace_back("\u2581", " ");
  parts->decode.byte_fallback = true;
  parts->decode.strip_leading_space =
      (spec.add_dummy_prefix && !spec.whitespace_as_suffix) || spec.remove_extra_whitespaces;
  parts->special.unk = spec.unk;
  parts->special.bos = spec.bos;
  parts->special.eos = spec.eos;
  parts->special.pad = spec.pad;
}

}  // namespace inferd
