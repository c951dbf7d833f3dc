"""Quantizers: Larq's pure functions under the names this package uses.

`sign` maps to {-1, +1} with sign(0) = +1, as Larq and the LCE converter have it. What
differs between the two uses is the pseudo-gradient:

- activations: Bi-Real's piecewise quadratic estimate, dq/dx = 2 - 2|x| for |x| <= 1
  (Liu et al. 2018, arXiv 1808.00278);
- kernels: straight through for |w| <= 1 (Courbariaux et al. 2016, arXiv 1602.02830).
"""

from bitat_tf._keras import quiet_import

with quiet_import():
    import larq as lq

KERNEL_QUANTIZER = "ste_sign"
KERNEL_CONSTRAINT = "weight_clip"

activation_sign = lq.quantizers.approx_sign
