// Scale and zero point of a row whose elements span lowest…highest, for the range -128…127.
struct QParams {
    scale: f32,
    zero: f32,
}

const SMALLEST = 6.1e-5;

// 255 steps from the smallest to the largest element and zero; tiny steps are widened to SMALLEST.
fn choose_qparams(lowest: f32, highest: f32) -> QParams {
    var low = min(lowest, 0.0);
    var high = max(highest, 0.0);
    var scale = (high - low) / 255.0;
    if scale == 0.0 { scale = 0.1; }
    if scale < SMALLEST {
        let old = scale;
        scale = SMALLEST;
        if low == 0.0 {
            high = scale * 255.0;
        } else if high == 0.0 {
            low = -scale * 255.0;
        } else {
            low *= SMALLEST / old;
            high *= SMALLEST / old;
        }
    }
    let from_low = -128.0 - low / scale;
    let from_high = 127.0 - high / scale;
    let low_error = 128.0 - abs(low / scale);
    let high_error = 127.0 - abs(high / scale);
    let zero = select(from_high, from_low, low_error < high_error);
    return QParams(scale, round(clamp(zero, -128.0, 127.0)));
}
