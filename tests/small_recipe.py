"""A short recipe, to be broken in many ways."""

SMALL = """\
schema: tem-cd-recipe/1
name: small
version: 1
materials: {si: Si, gate: Metal}
structures:
  gate: {materials: [gate], base: {interface_with: si}}
measurements:
  - {id: cd, kind: width, of: gate, at: {fraction: 0.5}, target_nm: 20}
  - {id: h, kind: height, of: gate}
"""
