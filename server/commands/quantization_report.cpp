// Running a model before and after quantisation over the same text.
#include "server/commands/quantization_report.h"

#include <algorithm>

#include "engine/fidelity/kl_divergence.h"
#include "engine/fidelity/teacher_forced.h"
#include "engine/text/tokenizer.h"
#include "kernels/backend.h"

namespace inferd {
namespace {

constexpr std::string_view kText =
    R"(The mill stood where the river narrows, and for two hundred years it had ground the valley's rye. When the last
miller died, his daughter Ines sold the stones but kept the wheel. "It turns," she said, "so it can do something."
That winter she wound eleven kilometres of copper wire by lamplight, burned her fingers, and swore in three languages.

def median(values: list[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2

Water boils at 100 degrees Celsius at sea level, but at 4,000 metres it boils at about 87 degrees, because the air
presses less on its surface. Eggs therefore take longer to cook on a mountain, and bread dough rises faster.

{"order": 1842, "items": [{"name": "lamp", "price": 39.5, "quantity": 2}, {"name": "chair", "price": 120, "quantity": 1}],
 "total": 199.0, "paid": true}

春天的早晨，老人在河边散步。他看见一只白色的鸟站在石头上，一动也不动。
Question: If a train leaves at 9:40 and travels for 2 hours and 35 minutes, when does it arrive?
Answer: 9:40 plus 2 hours is 11:40, and 35 minutes more makes 12:15. The train arrives at 12:15.
)";

/// One loading of a model that generates text; without a decoder if it does not.
struct Loaded {
  Loaded(const Checkpoint& checkpoint, Backend& backend) {
    ModelOptions options;
    options.max_batch_tokens = options.max_logit_rows = kTeacherChunk;
    model = load_model(checkpoint, read_model_config(checkpoint), backend, options);
  }
  bool generates() const { return model.decoder != nullptr && model.decoder->longest_context() == 0; }
  LoadedModel model;
};

std::size_t likeliest(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Json quantization_report(const std::string& path, const QuantizeOptions& options) {
  const auto backend = make_cpu_backend({.threads = options.threads});
  auto checkpoint = Checkpoint::open(path);
  const QuantizePlan plan = plan_quantization(*checkpoint, options.to);
  Json report{{"to", load_quantization_name(options.to)},
              {"bytes_before", plan.bytes_before},
              {"bytes_after", plan.bytes_after}};
  std::vector<TokenId> tokens;
  std::vector<float> reference;  // [tokens, vocab_size]
  {
    const Loaded original(*checkpoint, *backend);
    if (!original.generates()) return report;
    tokens = load_tokenizer(*checkpoint)->encode(MarkedText::untrusted(kText), false);
    tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(kMaxTeacherTokens)));
    TeacherForced(*original.model.decoder, *backend).run(tokens, [&](std::size_t, std::span<const float> logits) {
      reference.insert(reference.end(), logits.begin(), logits.end());
    });
  }
  checkpoint = quantize_checkpoint(std::move(checkpoint), options);
  const Loaded quantized(*checkpoint, *backend);
  double kl = 0, same = 0;
  TeacherForced(*quantized.model.decoder, *backend).run(tokens, [&](std::size_t i, std::span<const float> logits) {
    const std::span<const float> before(reference.data() + i * logits.size(), logits.size());
    kl += kl_divergence(before, logits);
    same += likeliest(before) == likeliest(logits) ? 1 : 0;
  });
  report["positions"] = tokens.size();
  report["mean_kl"] = kl / static_cast<double>(tokens.size());
  report["top1_agreement"] = same / static_cast<double>(tokens.size());
  return report;
}

}  // namespace inferd
