// Taking up a matrix that keeps q, k and v head by head.
#include <cstring>

#include "engine/models/weight_loader.h"

namespace inferd {

Linear WeightLoader::linear_by_head(const std::string& module, int heads, int head_dim, std::int64_t columns) {
  const std::int64_t third = static_cast<std::int64_t>(heads) * head_dim;
  const Matrix all = matrix(module, 3 * third, columns);
  const std::vector<float> bias = values(checkpoint_.require(names_.stored(module + ".bias"), {3 * third}));
  const std::size_t stretch = static_cast<std::size_t>(head_dim) * row_bytes(all.source.dtype, columns);
  std::vector<std::byte> rows(3 * static_cast<std::size_t>(heads) * stretch);
  std::vector<float> stacked(bias.size());
  for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
    for (std::size_t part = 0; part < 3; ++part) {
      const std::size_t from = 3 * head + part, to = part * static_cast<std::size_t>(heads) + head;
      std::memcpy(rows.data() + to * stretch, all.source.data + from * stretch, stretch);
      std::memcpy(stacked.data() + to * static_cast<std::size_t>(head_dim),
                  bias.data() + from * static_cast<std::size_t>(head_dim),
                  static_cast<std::size_t>(head_dim) * sizeof(float));
    }
  }
  WeightSource source = all.source;
  source.data = rows.data();
  Linear linear;
  linear.weight = backend_->load_weight({&source, 1}, {});
  resident_bytes_ += linear.weight->bytes();
  for (const StoredTensor* tensor : all.tensors) taken(*tensor);
  linear.bias = upload(stacked);
  return linear;
}

}  // namespace inferd
