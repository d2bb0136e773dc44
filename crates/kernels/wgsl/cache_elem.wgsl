// Element type of keys and values.
#ifdef CACHE_F16
#enable f16
alias cache4 = vec4<f16>;
#else
alias cache4 = vec4<f32>;
#endif
