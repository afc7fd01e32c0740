#!/usr/bin/env node
// Checks the test vectors with Node's built-in crypto alone: `node conformance/vectors/check.mjs`.
//
// Written from the wire profile, and sharing nothing with the Rust and the Python checks but the JSON files. Prints the same
// summary; exits with 1 if anything differs.

import { createHash, createHmac, createPrivateKey, createPublicKey, constants, verify as verifySignature,
  X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

const ALGORITHMS = ['eddsa', 'es256', 'es384', 'ps256', 'rs256'];
const LABEL = 'EXPORTER-oauth-tls-session-bound';
const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'));
const sha256 = (data) => createHash('sha256').update(data).digest('base64url');
const thumbprint = (certificate) => sha256(certificate.raw); // PR-3

class Refused extends Error {}

function require(condition, reason) {
  if (!condition) throw new Refused(reason);
}

// RS-5..RS-9 less the memory of jti.
function verify(proof, vectors, certificate) {
  const { header, claims } = authenticated(proof, certificate);
  require(claims.ekm === Buffer.from(vectors.exporter_hex, 'hex').toString('base64url'), 'exporter');
  require(claims.ath === sha256(Buffer.from(vectors.access_token, 'ascii')), 'token_hash');
  const reusable = !['jti', 'htm', 'htu'].some((name) => name in claims);
  const oldest = reusable ? Math.min(vectors.now, vectors.handshake_at) : vectors.now;
  const { iat } = claims;
  require(Number.isInteger(iat) && oldest - 300 <= iat && iat <= vectors.now + 60, 'issued_at');
  if ('htm' in claims) require(claims.htm === vectors.request.method, 'method');
  if ('htu' in claims) require(matches(claims.htu, vectors.request.path, vectors.origins, true), 'target_uri');
  if ('jti' in claims) {
    const bytes = Buffer.byteLength(claims.jti);
    require(bytes >= 1 && bytes <= 256, 'proof_syntax');
  }
  return { header, claims, reusable };
}

// RS-5 and PR-9.
function authenticated(proof, certificate) {
  const parts = proof.split('.');
  require(Buffer.byteLength(proof) <= 8192 && parts.length === 3, 'proof_syntax');
  const header = jsonObject(parts[0]);
  require(!('crit' in header), 'proof_syntax');
  require(header.typ === 'tls-binding-proof+jwt', 'proof_type');
  const key = certificate.publicKey;
  require(algorithms(key).includes(header.alg), 'proof_algorithm');
  require(header['x5t#S256'] === thumbprint(certificate), 'proof_thumbprint');
  const signature = fromBase64url(parts[2]);
  require(signatureHolds(key, header.alg, signature, Buffer.from(`${parts[0]}.${parts[1]}`)), 'proof_signature');
  const claims = jsonObject(parts[1]);
  for (const name of ['ath', 'ekm', 'jti', 'htm', 'htu']) {
    const optional = !['ath', 'ekm'].includes(name);
    require(typeof claims[name] === 'string' || (optional && !(name in claims)), 'proof_syntax');
  }
  require(typeof claims.iat === 'number', 'proof_syntax');
  return { header, claims };
}

// PR-2.
function algorithms(key) {
  switch (key.asymmetricKeyType) {
    case 'ec':
      return { prime256v1: ['ES256'], secp384r1: ['ES384'] }[key.asymmetricKeyDetails.namedCurve] ?? [];
    case 'ed25519':
      return ['EdDSA', 'Ed25519'];
    case 'rsa':
      return key.asymmetricKeyDetails.modulusLength >= 2048 ? ['PS256', 'RS256'] : [];
    default:
      return [];
  }
}

function signatureHolds(key, algorithm, signature, message) {
  switch (algorithm) {
    case 'ES256':
      return signature.length === 64 && verifySignature('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
    case 'ES384':
      return signature.length === 96 && verifySignature('sha384', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
    case 'PS256':
      return verifySignature('sha256', message,
        { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }, signature);
    case 'RS256':
      return verifySignature('sha256', message, { key, padding: constants.RSA_PKCS1_PADDING }, signature);
    default:
      return verifySignature(null, message, key, signature);
  }
}

function fromBase64url(text) {
  const raw = Buffer.from(text, 'base64url');
  require(raw.toString('base64url') === text, 'proof_syntax');
  return raw;
}

function jsonObject(encoded) {
  const text = fromBase64url(encoded).toString('utf8');
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Refused('proof_syntax');
  }
  require(typeof found === 'object' && found !== null && !Array.isArray(found) && !hasDoubledMember(text), 'proof_syntax');
  return found;
}

// JSON.parse keeps the last of several members of one name, and tells nothing of the others. The text is valid JSON.
function hasDoubledMember(text) {
  const open = [];
  const tokens = text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]/gs);
  for (const [token] of tokens) {
    const top = open.at(-1);
    if (token === '{') open.push({ names: new Set(), nameNext: true });
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    else if (token === ',' && top) top.nameNext = true;
    else if (token[0] === '"' && top?.nameNext) {
      const name = JSON.parse(token);
      if (top.names.has(name)) return true;
      top.names.add(name);
      top.nameNext = false;
    }
  }
  return false;
}

// PR-7. `path` is that of the request.
function matches(htu, path, origins, bareAccepted) {
  const target = normalTarget(htu);
  const own = normalPath(path.split('?')[0]);
  if (target === null) return false;
  return target.startsWith('/') ? bareAccepted && target === own
    : origins.some((origin) => normalTarget(origin + own) === target);
}

function normalTarget(text) {
  if (text.includes('?') || text.includes('#')) return null;
  if (/^\/(?!\/)/.test(text)) return normalPath(text);
  const found = /^(https?):\/\/([^/@]+?)(?::(\d*))?(\/.*)?$/i.exec(text);
  if (!found) return null;
  const scheme = found[1].toLowerCase();
  const port = found[3] ? Number(found[3]) : null;
  const shown = port === null || port === { https: 443, http: 80 }[scheme] ? '' : `:${port}`;
  return `${scheme}://${found[2].toLowerCase()}${shown}${normalPath(found[4] ?? '/')}`;
}

// RFC 3986 §6.2.2: escapes of unreserved characters are decoded, others in upper case; then dot segments go.
function normalPath(path) {
  const decoded = path.replace(/%([0-9a-f]{2})/gi, (escape, hex) => {
    const character = String.fromCharCode(parseInt(hex, 16));
    return /[A-Za-z0-9\-._~]/.test(character) ? character : escape.toUpperCase();
  });
  const segments = [];
  for (const segment of decoded.split('/').slice(1)) {
    if (segment === '..') segments.pop();
    else if (segment !== '.') segments.push(segment);
  }
  return `/${segments.join('/')}`;
}

function* checkAlgorithm(vectors) {
  const certificate = new X509Certificate(vectors.certificate_pem);
  const fromPrivate = createPublicKey(createPrivateKey(vectors.private_key_pem));
  if (!fromPrivate.equals(certificate.publicKey)) yield 'the private key does not fit the certificate';
  if (thumbprint(certificate) !== vectors.thumbprint) yield 'thumbprint';
  for (const vector of vectors.accepted) {
    const reason = refusal(vector.proof, vectors, certificate);
    if (reason) {
      yield `${vector.name}: refused by ${reason}`;
      continue;
    }
    const { header, claims, reusable } = verify(vector.proof, vectors, certificate);
    if (!same(header, vector.header) || !same(claims, vector.claims) || reusable !== vector.reusable) {
      yield `${vector.name}: says something else than stated`;
    }
  }
  yield* checkRefused(vectors.refused, vectors, () => certificate);
}

function* checkRefused(list, vectors, certificateOf) {
  for (const vector of list) {
    const reason = refusal(vector.proof, vectors, certificateOf(vector));
    if (reason !== vector.reason) yield `${vector.name}: ${reason ?? 'accepted'} instead of ${vector.reason}`;
    if (vector.error !== 'invalid_proof') yield `${vector.name}: ${vector.error}`; // RS-10
  }
}

function refusal(proof, vectors, certificate) {
  try {
    verify(proof, vectors, certificate);
    return null;
  } catch (error) {
    if (error instanceof Refused) return error.message;
    throw error;
  }
}

function same(left, right) {
  const sorted = (value) => (value && typeof value === 'object' && !Array.isArray(value)
    ? Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])])) : value);
  return JSON.stringify(sorted(left)) === JSON.stringify(sorted(right));
}

// EX-1, EX-2. `context` is null for an absent one.
function exporter(vector, label, context) {
  const mac = (key, ...parts) => parts.reduce((h, part) => h.update(part), createHmac(vector.hash, key)).digest();
  const digest = (data) => createHash(vector.hash).update(data).digest();
  const hex = (name) => Buffer.from(vector[name], 'hex');
  if (vector.tls === '1.3') {
    const expandLabel = (secret, name, data, size) => mac(secret,
      Buffer.from([size >> 8, size & 255, name.length + 6]), `tls13 ${name}`, Buffer.from([data.length]), data,
      Buffer.from([1])).subarray(0, size);
    const empty = digest('');
    const derived = expandLabel(hex('exporter_master_secret_hex'), label, empty, empty.length);
    return expandLabel(derived, 'exporter', digest(context ?? ''), 32);
  }
  const parts = [Buffer.from(label), hex('client_random_hex'), hex('server_random_hex')];
  if (context !== null) parts.push(Buffer.from([context.length >> 8, context.length & 255]), Buffer.from(context));
  const seed = Buffer.concat(parts);
  const secret = hex('master_secret_hex');
  return mac(secret, mac(secret, seed), seed).subarray(0, 32);
}

function* checkExporter({ label, vectors }) {
  for (const vector of vectors) {
    if (exporter(vector, label, '').toString('hex') !== vector.exporter_hex) yield `${vector.name}: another value`;
    const wrong = vector.wrong_hex_of_an_absent_context;
    if (wrong !== undefined && exporter(vector, label, null).toString('hex') !== wrong) {
      yield `${vector.name}: another value of an absent context`;
    }
    if (wrong === vector.exporter_hex) yield `${vector.name}: an absent context is not told from an empty one`;
  }
}

function* checkValues(vectors) {
  for (const vector of vectors.thumbprints) {
    const found = thumbprint(new X509Certificate(vector.certificate_pem));
    if (found !== vector['x5t#S256']) yield `${vector.name}: another thumbprint`;
  }
  for (const vector of vectors.token_hashes) {
    if (sha256(Buffer.from(vector.access_token, 'ascii')) !== vector.ath) yield `${vector.name}: another ath`;
  }
}

function* checkTargets({ origins, vectors }) {
  for (const vector of vectors) {
    if (matches(vector.htu, vector.path, origins, true) !== vector.matches) yield `${vector.name}: not as stated`;
    if (matches(vector.htu, vector.path, origins, false) !== vector.matches_where_bare_paths_are_refused) {
      yield `${vector.name}: not as stated where bare paths are refused`;
    }
  }
}

// TK-0, TK-1, TK-2, TK-5.
function confirmation(text) {
  const malformed = { says: 'malformed' };
  const claims = JSON.parse(text);
  if (hasDoubledMember(text)) return malformed;
  if (!('cnf' in claims)) return { says: 'none' };
  const { cnf } = claims;
  if (typeof cnf !== 'object' || cnf === null || Array.isArray(cnf)) return malformed;
  const is32 = (value) => typeof value === 'string' && /^[A-Za-z0-9_-]{43}$/.test(value)
    && Buffer.from(value, 'base64url').toString('base64url') === value;
  const certificate = cnf['x5t#S256'];
  if ('x5t#S256' in cnf && !is32(certificate)) return malformed;
  if ('jkt' in cnf && !is32(cnf.jkt)) return malformed;
  if ('tls_exp' in cnf && typeof cnf.tls_exp !== 'string') return malformed;
  let says = certificate ? 'certificate' : 'unknown';
  if ('tls_exp' in cnf) {
    says = certificate ? 'session' : 'no_certificate';
    if (cnf.tls_exp !== LABEL) says = 'unknown_label';
    if ('jkt' in cnf) says = 'conflict';
  } else if ('jkt' in cnf) {
    says = 'dpop';
  }
  return { says, certificate };
}

// The table of RS-13, by row and column; RS-3 and RS-4 beside it.
function verdict(policy, { says, certificate }, own, proof, dpop) {
  if (certificate !== undefined && certificate !== own) return 'invalid_token';
  const askProof = proof ? 'session' : 'use_session_binding';
  const table = {
    Follow: { session: askProof, certificate: proof ? 'session' : 'certificate', dpop: dpop && 'dpop', none: 'bearer' },
    RequireBound: { session: askProof, certificate: proof ? 'session' : 'certificate', dpop: dpop && 'dpop' },
    RequireProof: { session: askProof, certificate: askProof },
    RequireSession: { session: askProof },
  };
  return table[policy][says] || 'invalid_token';
}

function* checkConfirmations(vectors) {
  for (const vector of vectors.vectors) {
    const found = confirmation(vector.claims_json);
    if (found.says !== vector.says) yield `${vector.name}: says ${found.says}`;
    for (const [policy, expected] of Object.entries(vector.verdicts)) {
      const own = vectors['connection_x5t#S256'];
      const given = verdict(policy, found, own, vector.session_binding_proof, vector.dpop_proof);
      if (given !== expected) yield `${vector.name}: ${policy} gives ${given}`;
    }
  }
}

function* checkHostile(vectors) {
  yield* checkRefused(vectors.vectors, vectors, (vector) => new X509Certificate(vector.certificate_pem));
}

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const QUOTED = '"((?:[^"\\\\]|\\\\.)*)"';
// The value ends at a separator; unquoted ones may have characters that no token has, such as those of a URL.
const PARAMETER = new RegExp(`(${TOKEN})[ \\t]*=[ \\t]*(?:${QUOTED}|([^ \\t,;"]+))(?=[ \\t,;]|$)`, 'sy');
const SCHEME = new RegExp(`(${TOKEN})(?=[ \\t,;]|$)`, 'y');
const TOKEN68 = /[ \t]+[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y;
const SEPARATORS = /[ \t,;]*/y;
const RUBBISH = new RegExp(`${QUOTED}(?=[ \\t,;]|$)|[^,]+`, 'sy');

// RFC 9110 §11.6.1 over all field lines, forgiving: what cannot be read ends its challenge and hides no other one.
function challenges(lines) {
  const at = (pattern, line, index) => {
    pattern.lastIndex = index;
    return pattern.exec(line);
  };
  const found = [];
  let current = null;
  for (const line of lines) {
    let index = 0;
    let item = true;
    for (;;) {
      const [separators] = at(SEPARATORS, line, index);
      item ||= separators.includes(',');
      index += separators.length;
      if (index === line.length) break;
      const parameter = at(PARAMETER, line, index);
      const scheme = at(SCHEME, line, index);
      const behind = scheme && index + scheme[0].length;
      if (parameter) {
        const value = parameter[2] === undefined ? parameter[3] : parameter[2].replace(/\\(.)/gs, '$1');
        current?.push([parameter[1], Buffer.from(value, 'latin1').toString('utf8')]);
        index += parameter[0].length;
      } else if (scheme && (item || at(PARAMETER, line, behind + at(SEPARATORS, line, behind)[0].length))) {
        current = [];
        found.push([scheme[1], current]);
        index = behind + (at(TOKEN68, line, behind)?.[0].length ?? 0);
      } else {
        current = null;
        index += at(RUBBISH, line, index)[0].length;
      }
      item = false;
    }
  }
  return found;
}

function* checkChallenges(vectors) {
  for (const vector of vectors) {
    const found = challenges(vector.lines);
    if (JSON.stringify(found) !== JSON.stringify(vector.challenges)) yield `${vector.about}: ${JSON.stringify(found)}`;
  }
}

const wrong = [];
for (const name of ALGORITHMS) {
  const vectors = read(`${name}.json`);
  for (const problem of checkAlgorithm(vectors)) wrong.push(`${name}.json: ${problem}`);
  console.log(`${name}.json: ${vectors.accepted.length} accepted, ${vectors.refused.length} refused`);
}
const others = { exporter: checkExporter, values: checkValues, targets: checkTargets, confirmations: checkConfirmations,
  hostile: checkHostile, challenges: checkChallenges };
for (const [name, check] of Object.entries(others)) {
  const vectors = read(`${name}.json`);
  for (const problem of check(vectors)) wrong.push(`${name}.json: ${problem}`);
  const lists = Array.isArray(vectors) ? [vectors]
    : Object.entries(vectors).filter(([key, value]) => Array.isArray(value) && key !== 'origins').map(([, list]) => list);
  console.log(`${name}.json: ${lists.reduce((sum, list) => sum + list.length, 0)} vectors`);
}
console.log(wrong.join('\n') || 'all as stated');
process.exitCode = wrong.length ? 1 : 0;
