// Element type of activations: `elem`, `elem4`; arithmetic is always done in f32.
#ifdef F16
#enable f16
alias elem = f16;
alias elem4 = vec4<f16>;
#else
alias elem = f32;
alias elem4 = vec4<f32>;
#endif
