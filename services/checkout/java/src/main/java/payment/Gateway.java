package payment;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/** The payment gateway's client. Whatever is not an answer to the question is an IOException: nobody knows then what happened. */
final class Gateway {
    private static final Duration WITHIN = Duration.ofSeconds(2);

    record Charge(String id, String status, long amount, String currency) {}

    private final HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(WITHIN).build();
    private final String address;

    Gateway(String hostAndPort) {
        address = "http://" + hostAndPort;
    }

    /** Charge a card, once for a key; null if the bank declines. */
    Charge charge(String key, long amount, String currency, String card, String reference) throws IOException, InterruptedException {
        ObjectNode body = Command.JSON.createObjectNode();
        body.put("amount", amount).put("currency", currency).put("card", card).put("reference", reference);
        HttpResponse<String> said = post("/charges", key, body.toString());
        return said.statusCode() == 402 ? null : charge(read(said));
    }

    /** See to it that this key never charges; the answer says if it already has. */
    Charge cancel(String key) throws IOException, InterruptedException {
        String escaped = URLEncoder.encode(key, StandardCharsets.UTF_8).replace("+", "%20");
        return charge(read(post("/charges/" + escaped + "/void", null, "")));
    }

    /** Give a charge back, once; the refund's id. */
    String refund(String key, String chargeKey) throws IOException, InterruptedException {
        String body = Command.JSON.createObjectNode().put("charge_key", chargeKey).toString();
        return read(post("/refunds", key, body)).required("refund_id").asText();
    }

    private HttpResponse<String> post(String path, String key, String body) throws IOException, InterruptedException {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(address + path)).timeout(WITHIN);
        if (key != null) {
            request.header("Idempotency-Key", key);
        }
        request.header("Content-Type", "application/json");
        return http.send(request.POST(BodyPublishers.ofString(body)).build(), BodyHandlers.ofString());
    }

    private static JsonNode read(HttpResponse<String> said) throws IOException {
        if (said.statusCode() / 100 != 2) {
            throw new IOException("the gateway says " + said.statusCode() + ": " + said.body());
        }
        return Command.JSON.readTree(said.body());
    }

    private static Charge charge(JsonNode said) {
        return new Charge(
                said.required("charge_id").asText(), said.required("status").asText(), said.required("amount").asLong(), said.required("currency").asText());
    }
}
