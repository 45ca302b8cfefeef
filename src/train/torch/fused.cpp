#include "train/torch/fused.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "train/attention_kernel.h"
#include "train/row_kernels.h"

namespace fathom::train::fused {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr std::int64_t kPart = 16384;  // elements that are worth a thread

std::int64_t grain(std::int64_t row) { return std::max<std::int64_t>(1, kPart / row); }

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}
template <class T>
const T* read(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

/// Shares rows out to threads: `work` gets an element of x's type, whose value means nothing, and
/// the rows from and to.
template <class Work>
void for_rows(const Tensor& x, std::int64_t rows, std::int64_t least, const Work& work) {
  at::parallel_for(0, rows, least, [&](std::int64_t from, std::int64_t to) {
    if (x.scalar_type() == at::kBFloat16) {
      work(Bf16{}, from, to);
    } else {
      work(float{}, from, to);
    }
  });
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Variable forward(AutogradContext* context, const Tensor& input, const Tensor& weight,
                          double epsilon) {
    const Tensor x = input.contiguous();
    const std::int64_t size = x.size(-1), rows = x.numel() / size;
    const Tensor y = at::empty_like(x);
    const Tensor scales = at::empty({rows}, weight.options().requires_grad(false));
    for_rows(x, rows, grain(size), [&](auto type, std::int64_t from, std::int64_t to) {
      using T = decltype(type);
      rms_norm_rows(read<T>(x), read<float>(weight), data<T>(y), data<float>(scales), from, to,
                    size, static_cast<float>(epsilon));
    });
    context->save_for_backward({x, weight, scales});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &scales = saved[2];
    const Tensor to_y = gradients[0].contiguous();
    const std::int64_t size = x.size(-1), rows = x.numel() / size;
    // Parts are as many whatever the threads, so that their sum is the same.
    const std::int64_t parts = std::min<std::int64_t>(rows, 16);
    const Tensor to_x = at::empty_like(x), partial = at::zeros({parts, size}, weight.options());
    for_rows(x, parts, 1, [&](auto type, std::int64_t from, std::int64_t to) {
      using T = decltype(type);
      for (std::int64_t part = from; part < to; ++part) {
        rms_norm_back_rows(read<T>(to_y), read<T>(x), read<float>(weight), read<float>(scales),
                           data<T>(to_x), data<float>(partial) + part * size, rows * part / parts,
                           rows * (part + 1) / parts, size);
      }
    });
    return {to_x, partial.sum(0), Variable()};
  }
};

class Swiglu : public torch::autograd::Function<Swiglu> {
 public:
  static Variable forward(AutogradContext* context, const Tensor& gate_, const Tensor& up_) {
    const Tensor gate = gate_.contiguous(), up = up_.contiguous(), y = at::empty_like(gate);
    const std::int64_t size = gate.size(-1);
    for_rows(gate, gate.numel() / size, grain(size),
             [&](auto type, std::int64_t from, std::int64_t to) {
               using T = decltype(type);
               swiglu_rows(read<T>(gate), read<T>(up), data<T>(y), from, to, size, size);
             });
    context->save_for_backward({gate, up});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], to_y = gradients[0].contiguous();
    const Tensor to_gate = at::empty_like(gate), to_up = at::empty_like(up);
    const std::int64_t size = gate.size(-1);
    for_rows(gate, gate.numel() / size, grain(size),
             [&](auto type, std::int64_t from, std::int64_t to) {
               using T = decltype(type);
               swiglu_back_rows(read<T>(to_y), read<T>(gate), read<T>(up), data<T>(to_gate),
                                data<T>(to_up), from, to, size, size);
             });
    return {to_gate, to_up};
  }
};

/// Tokens of all rows evenly apart, and each head's elements side by side: else a copy.
Tensor with_even_tokens(const Tensor& x) {
  const bool even = x.stride(-1) == 1 && x.stride(0) == x.size(1) * x.stride(1);
  return even ? x : x.contiguous();
}

/// x: [rows, length, heads, width], its heads' elements side by side.
Tensor rotated(const Tensor& x_, const Tensor& cosines, const Tensor& sines, bool neighbours,
               std::int64_t plain, bool back) {
  const Tensor x = with_even_tokens(x_);
  RotationShape shape;
  shape.heads = x.size(2);
  shape.plain = plain;
  shape.turned = x.size(3) - plain;
  shape.row_stride = x.stride(1);
  shape.head_stride = x.stride(2);
  shape.neighbours = neighbours;
  shape.back = back;
  const Tensor y = at::empty(x.sizes(), x.options());
  for_rows(x, x.size(0) * x.size(1), grain(shape.heads * x.size(3)),
           [&](auto type, std::int64_t from, std::int64_t to) {
             using T = decltype(type);
             rotate_rows(read<T>(x), read<float>(cosines), read<float>(sines), data<T>(y), from, to,
                         shape);
           });
  return y;
}

class Rotate : public torch::autograd::Function<Rotate> {
 public:
  static Variable forward(AutogradContext* context, const Tensor& x, const Tensor& cosines,
                          const Tensor& sines, bool neighbours, std::int64_t plain) {
    context->save_for_backward({cosines, sines});
    context->saved_data["neighbours"] = neighbours;
    context->saved_data["plain"] = plain;
    return rotated(x, cosines, sines, neighbours, plain, false);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    return {rotated(gradients[0], saved[0], saved[1], context->saved_data["neighbours"].toBool(),
                    context->saved_data["plain"].toInt(), true),
            Variable(), Variable(), Variable(), Variable()};
  }
};

class Attention : public torch::autograd::Function<Attention> {
 public:
  static Variable forward(AutogradContext* context, const Tensor& q_, const Tensor& k_,
                          const Tensor& v_, const Tensor& starts, const Tensor& prefixes,
                          double scale) {
    const Tensor q = with_even_tokens(q_), k = with_even_tokens(k_), v = with_even_tokens(v_);
    const AttentionShape shape = shape_of(q, k, v, scale);
    const Tensor out = at::empty({q.size(0), shape.length, shape.heads, shape.v_dim}, q.options());
    for_parts(q, starts, prefixes, shape.kv_heads, [&](auto type, const Part& p, auto& scratch) {
      using T = decltype(type);
      AttentionShape part = shape;
      part.length = p.tokens;
      attend_row(at_token<T>(q, p), at_token<T>(k, p), at_token<T>(v, p), p.sight,
                 at_token<T>(out, p), p.head, part, scratch);
    });
    context->save_for_backward({q, k, v, starts, prefixes});
    context->saved_data["scale"] = scale;
    return out.flatten(2);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const AttentionShape shape = shape_of(q, k, v, context->saved_data["scale"].toDouble());
    const Tensor to_out = gradients[0].contiguous();
    const Tensor to_q = at::empty(q.sizes(), q.options()), to_k = at::empty(k.sizes(), k.options()),
                 to_v = at::empty(v.sizes(), v.options());
    for_parts(q, saved[3], saved[4], shape.kv_heads, [&](auto type, const Part& p, auto& scratch) {
      using T = decltype(type);
      AttentionShape part = shape;
      part.length = p.tokens;
      attend_back_row(at_token<T>(to_out, p), at_token<T>(q, p), at_token<T>(k, p),
                      at_token<T>(v, p), p.sight, at_token<T>(to_q, p), at_token<T>(to_k, p),
                      at_token<T>(to_v, p), p.head, part, scratch);
    });
    return {to_q, to_k, to_v, Variable(), Variable(), Variable()};
  }

 private:
  static AttentionShape shape_of(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
    AttentionShape shape;
    shape.length = q.size(1);
    shape.heads = q.size(2);
    shape.kv_heads = k.size(2);
    shape.dim = q.size(3);
    shape.v_dim = v.size(3);
    shape.scale = static_cast<float>(scale);
    shape.q = {q.stride(1), q.stride(2)};
    shape.k = {k.stride(1), k.stride(2)};
    shape.v = {v.stride(1), v.stride(2)};
    return shape;
  }
  /// Neighbouring documents of a row that see no others, for one head.
  struct Part {
    std::int64_t row, begin, tokens, head = 0;
    RowSight sight;
  };
  static constexpr std::int64_t kPartTokens = 512;  // that are worth a thread

  static std::vector<Part> parts_of(const Tensor& starts, const Tensor& prefixes) {
    std::vector<Part> parts;
    const std::int64_t length = starts.size(1);
    for (std::int64_t row = 0; row < starts.size(0); ++row) {
      const auto* start = read<std::int64_t>(starts) + row * length;
      const auto* prefix =
          prefixes.numel() > 0 ? read<std::int64_t>(prefixes) + row * length : nullptr;
      std::int64_t begin = 0;
      for (std::int64_t t = 1; t <= length; ++t) {
        const bool apart = t == length || (start[t] == t && t - begin >= kPartTokens &&
                                           (prefix == nullptr || prefix[t] < 0));
        if (!apart) continue;
        const auto* seen = prefix == nullptr ? nullptr : prefix + begin;
        parts.push_back({row, begin, t - begin, 0, {start + begin, seen, begin}});
        begin = t;
      }
    }
    return parts;
  }
  template <class T>
  static T* at_token(const Tensor& x, const Part& part) {
    return data<T>(x) + part.row * x.stride(0) + part.begin * x.stride(1);
  }
  template <class Work>
  static void for_parts(const Tensor& x, const Tensor& starts, const Tensor& prefixes,
                        std::int64_t kv_heads, const Work& work) {
    const std::vector<Part> parts = parts_of(starts, prefixes);
    const auto all = static_cast<std::int64_t>(parts.size()) * kv_heads;
    for_rows(x, all, 1, [&](auto type, std::int64_t from, std::int64_t to) {
      AttentionScratch scratch;
      for (std::int64_t i = from; i < to; ++i) {
        Part part = parts[static_cast<std::size_t>(i / kv_heads)];
        part.head = i % kv_heads;
        work(type, part, scratch);
      }
    });
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  return RmsNorm::apply(x, weight, epsilon);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) { return Swiglu::apply(gate, up); }

Tensor rotate(const Tensor& x, const std::pair<Tensor, Tensor>& angles, RopePairing pairing,
              std::int64_t plain) {
  return Rotate::apply(x, angles.first.contiguous(), angles.second.contiguous(),
                       pairing == RopePairing::Interleaved, plain);
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts,
                 const Tensor& prefixes, double scale) {
  // Autograd takes no undefined tensor.
  return Attention::apply(q, k, v, starts,
                          prefixes.defined() ? prefixes : at::empty({0}, starts.options()), scale);
}

Tensor swiglu_of_both(const Tensor& both) {
  const std::int64_t size = both.size(1) / 2;
  const Tensor y = at::empty({both.size(0), size}, both.options());
  for_rows(both, both.size(0), grain(size), [&](auto type, std::int64_t from, std::int64_t to) {
    using T = decltype(type);
    swiglu_rows(read<T>(both), read<T>(both) + size, data<T>(y), from, to, size, 2 * size);
  });
  return y;
}

Tensor swiglu_of_both_back(const Tensor& to_y, const Tensor& both) {
  const std::int64_t size = both.size(1) / 2;
  const Tensor to_both = at::empty_like(both);
  for_rows(both, both.size(0), grain(size), [&](auto type, std::int64_t from, std::int64_t to) {
    using T = decltype(type);
    swiglu_back_rows(read<T>(to_y), read<T>(both), read<T>(both) + size, data<T>(to_both),
                     data<T>(to_both) + size, from, to, size, 2 * size);
  });
  return to_both;
}

Tensor combine(const Tensor& outputs, const Tensor& place, const Tensor& weight) {
  const std::int64_t tokens = place.size(0), per_token = place.size(1), size = outputs.size(1);
  const Tensor y = at::empty({tokens, size}, outputs.options());
  for_rows(outputs, tokens, grain(size), [&](auto type, std::int64_t from, std::int64_t to) {
    using T = decltype(type);
    combine_rows(read<T>(outputs), place.const_data_ptr<std::int64_t>(), read<float>(weight),
                 data<T>(y), from, to, per_token, size);
  });
  return y;
}

std::pair<Tensor, Tensor> combine_back(const Tensor& to_y, const Tensor& outputs,
                                       const Tensor& place, const Tensor& weight) {
  const std::int64_t tokens = place.size(0), per_token = place.size(1), size = outputs.size(1);
  // Rows that are no token's get zeros.
  const Tensor to_outputs =
      outputs.size(0) == place.numel() ? at::empty_like(outputs) : at::zeros_like(outputs);
  const Tensor to_weight = at::empty_like(weight);
  for_rows(outputs, tokens, grain(size), [&](auto type, std::int64_t from, std::int64_t to) {
    using T = decltype(type);
    combine_back_rows(read<T>(to_y), read<T>(outputs), place.const_data_ptr<std::int64_t>(),
                      read<float>(weight), data<T>(to_outputs), data<float>(to_weight), from, to,
                      per_token, size);
  });
  return {to_outputs, to_weight};
}

}  // namespace fathom::train::fused
