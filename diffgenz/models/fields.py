"""The fields of config.json files that change neither a shape nor a cost, whatever the family.

They say how a model was trained, how tokens are numbered, how positions are encoded and numbers
scaled, or which software wrote the file. All other fields must be read by a family
(`models.config.Config.refuse_unread`).
"""

import re
from typing import Any

WITHOUT_INFLUENCE = re.compile(
    r"""
    _.*                                          # private: _name_or_path, _attn_implementation
    | source | (published|parameters|active_parameters)_.*  # of the shipped files
    | architectures | auto_map | model_type | transformers_version | .*_version | .*_version_.*
    | torch_dtype | dtype | .*_dtype | .*dtype | quantization_config | compression_config
    | name | name_or_path | id2label | label2id | num_labels | problem_type | task_.* | finetuning.*
    | .*_class | tokenizer_.* | prefix | license | return_.* | output_.*states | output_attentions
    | output_router_logits | output_past | use_cache | cache_implementation | use_return_dict
    | torchscript | output_scores | is_composition | custom_pipelines | unsloth_.* | tf_.*
    | gradient_checkpointing.* | is_decoder | is_encoder_decoder
    | cross_attention_hidden_size | pruned_heads | chunk_size_feed_forward
    | tie_encoder_decoder | bad_words_ids | decoder_start_token_id
    # how text is generated, which older files state with the architecture
    | do_sample | early_stopping | num_beams | num_beam_groups | num_return_sequences | top_[kp]
    | typical_p | temperature | (repetition|length|diversity|exponential_decay_length)_penalty
    | (encoder_)?no_repeat_ngram_size | remove_invalid_values | (begin_)?suppress_tokens
    | forced_.*_token_id | is_composition
    # numbers of tokens and of places in the vocabulary
    | .*_token_ids? | .*_token_index | .*_token(_id)?_.* | .*token_ids | ignore_index | .*_tokenid
    | max_position_embeddings | (model_)?max_(seq_len|length|sequence_length|context_length)
    | seq_length | model_max_length | max_window_size | original_max_position_embeddings
    | (max|min)_(new_tokens|length) | (max_)?sequence_length
    # positions and scales
    | .*rope.*(theta|scal|type|interleave|param|percent|pct|factor|beta|freq|fraction|mscale).*
    | rotary_(pct|dim|emb_base|base|percent|emb_fraction) | partial_rotary_factor.* | .*_rope_pct
    | use_(mrope|dynamic_ntk|logn_attn|rotary_emb) | mrope_.* | rope_(ratio|local_base_freq)
    | rope_position_encoding | use_pos_enc | position_encoding | rel_pos_.*
    | qk_rope | use_rope | nope_layer_interval | no_rope_layers | no_rope_layer_interval
    | use_gemma_norm | initial_context_length
    | .*(norm|ln|layernorm|rms)_eps(ilon)? | epsilon | rms_eps | .*_epsilon | eps
    | .*soft_?cap(ping)? | .*_multiplier | .*_scaling | .*_scaling_factor | .*_scale | scale_.*
    | .*_scale_base | attn_scale | logit_.* | query_pre_attn_scalar | floor_scale
    | attention_(logits_)?softcap.* | norm_(head|alpha).* | apply_.*query_key_layer_scaling
    | max_attn_val(ue)? | clip_qkv | normalize_.* | .*_softmax_.* | softmax_.* | .*_in_fp32
    | norm_topk_prob(ability)? | scoring_func | score_func(tion)? | topk_method | routing_method
    | router_(activation|score|scaling|jitter|bias_update|z_loss|aux|ignore|softmax).*
    | moe_router_(score|scaling|activation|load|fusion|aux|enable|dtype|topk_scal|pre|bias_up).*
    | (hidden_)?act(ivation)?(_fn|_func|_function|_alpha|_limit|_type|_fn_name)? | hidden_activation
    | .*_act(ivation)?(_fn|_func|_function)? | swiglu_(alpha|limit).* | .*_limit | .*_hidden_act
    # how text is generated, and classified
    | temperature | top_[khp] | typical_p | min_p | do_sample | num_beam(s|_groups) | early_stopping
    | .*_penalty | penalty_alpha | (encoder_)?no_repeat_ngram_size | num_return_sequences
    | remove_invalid_values | (begin_)?suppress_tokens | forced_.* | .*watermark.* | renormalize_.*
    | summary_.* | classifier_.* | sep_token.*
    # training
    | .*dropout.* | drop_path.* | .*drop(_rate)?
    | .*_pdrop | .*initializer.* | init_.* | .*_init_(std|range|.*)
    | .*_std | .*loss.* | .*_coef(f|ficient)?.* | .*aux.* | pretraining_tp | ep_size
    | router_jitter_noise | .*jitter.* | seq_aux | deterministic_.* | rescale_prenorm_residual
    | time_step_(floor|limit|max|min|init_scheme|scale) | mamba_dt_(min|max|init.*)
    | train.* | .*_training | data_.* | mup_.* | .*_lr_.* | bos | eos
    # how software runs it
    | (use_|no_)?flash_attn.* | use_flash_.* | use_mamba_kernels | use_.*_kernel.* | fused?_.*
    | use_fused_.* | attn_implementation | attention_(type|implementation)_override | use_sdpa
    | using_mamba_kernels | num_logits_to_keep | calc_logits_.* | use_xformers | memory_efficient_.*
    | experts_implementation | fp32_.* | use_fp32_.* | .*_fp32 | on_device | vllm_.* | sglang_.*
    | use_associative_scan | use_mambapy | use_mem_eff_path | reorder_and_upcast_attn
    | slow_but_exact | mamba_ssm_cache_dtype | max_batch_size | use_parallel_embedding | .*_overlap
    | use_bfloat16
    """,
    re.VERBOSE,
)
"""Matches the names of such fields, each as a whole."""


def is_without_influence(key: str) -> bool:
    """Whether a field changes neither a shape nor a cost, in whatever family."""
    return WITHOUT_INFLUENCE.fullmatch(key) is not None


def is_off(value: Any) -> bool:
    """Whether a value says that what a field is about is not there: null, false, 0 or empty."""
    return value in (None, False, 0, "", "none", "null") or value in ([], {})
